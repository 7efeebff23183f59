//! `dgx-agent health`: asks a daemon whether it serves, by the standard gRPC health service.
//!
//! For people, service managers and probes: one line, and an answer in bounded time.

use std::{fmt, time::Duration};

use serde::Serialize;
use tonic::{Code, transport::Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

const PATIENCE: Duration = Duration::from_secs(5);

/// What the daemon said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    pub agent: String,
    pub serving: bool,
    /// `serving`, `draining`, or `unreachable`.
    pub status: &'static str,
    /// Why it does not serve.
    pub reason: Option<String>,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.agent, self.status)?;
        self.reason.as_ref().map_or(Ok(()), |reason| write!(f, " ({reason})"))
    }
}

/// Asks the daemon at `url`; an answer in any case.
pub async fn ask(url: &str) -> Health {
    let agent = url.to_owned();
    match tokio::time::timeout(PATIENCE, check(url)).await {
        Ok(Ok(ServingStatus::Serving)) => Health { agent, serving: true, status: "serving", reason: None },
        Ok(Ok(_)) => Health {
            agent,
            serving: false,
            status: "draining",
            reason: Some("it takes no new work: wait for it to end, then start it again".into()),
        },
        Ok(Err(reason)) => Health { agent, serving: false, status: "unreachable", reason: Some(reason) },
        Err(_) => {
            let reason = format!("no answer within {} s", PATIENCE.as_secs());
            Health { agent, serving: false, status: "unreachable", reason: Some(reason) }
        }
    }
}

async fn check(url: &str) -> Result<ServingStatus, String> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|_| "this is no URL: give one such as http://127.0.0.1:50051".to_owned())?;
    let channel = endpoint.connect().await.map_err(|_| {
        "nothing answers there: start it with `dgx-agent serve`, or pass its --agent URL".to_owned()
    })?;
    let asked = HealthCheckRequest { service: proto::grpc::agent_server::SERVICE_NAME.into() };
    let answer = HealthClient::new(channel).check(asked).await.map_err(|status| match status.code() {
        Code::NotFound | Code::Unimplemented => "what answers there is no dgx-agent".to_owned(),
        code => format!("{code:?}: {}", status.message()),
    })?;
    Ok(answer.get_ref().status())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_there_does_not_serve() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let free = format!("http://{}", listener.local_addr().expect("bound"));
        drop(listener);
        let health = ask(&free).await;
        assert!(!health.serving && health.to_string().contains("dgx-agent serve"), "{health}");
        let health = ask("not a URL").await;
        assert!(!health.serving && health.to_string().contains("no URL"), "{health}");
    }
}
