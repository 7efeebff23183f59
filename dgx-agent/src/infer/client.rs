//! The HTTP client for one Ollama server: pooled connections, no redirects, three time-outs, access headers.

use std::fmt;
use std::time::Duration;

use httpdate::parse_http_date;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use url::Url;

use super::error::InferError;

const DEFAULT_PORT: u16 = 11434;
/// Longest body read of anything that is not a completion stream.
const MAX_BODY: usize = 4 << 20;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// Between two chunks of an answer that has begun.
    pub idle: Duration,
    /// For a whole answer, the wait in the server's queue and the loading of the model included.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(600),
        }
    }
}

/// Where the server is and how to pass the proxy before it.
#[derive(Clone)]
pub struct Endpoint {
    url: Url,
    access: Option<(String, String)>,
}

impl Endpoint {
    /// `host`: what `OLLAMA_HOST` may say: a URL, `host:port`, `host` or `:port`. The bind address `0.0.0.0`
    /// means this machine.
    ///
    /// `access`: id and secret of a Cloudflare Access service token.
    pub fn parse(host: &str, access: Option<(String, String)>) -> Result<Self, String> {
        let named = if host.starts_with(':') { format!("127.0.0.1{host}") } else { host.to_owned() };
        let explicit = named.contains("://");
        let text = if explicit { named } else { format!("http://{named}") };
        let problem = |why: &str| format!("{host:?} is no Ollama address ({why}); give http://host:port");
        let mut url = Url::parse(&text).map_err(|error| problem(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(problem("the scheme is not http or https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the Ollama address must not hold a user or a password".to_owned());
        }
        if url.host_str() == Some("0.0.0.0") {
            url.set_host(Some("127.0.0.1")).map_err(|error| problem(&error.to_string()))?;
        }
        if !explicit && url.port().is_none() {
            url.set_port(Some(DEFAULT_PORT)).map_err(|()| problem("it takes no port"))?;
        }
        if !url.path().ends_with('/') {
            url.set_path(&format!("{}/", url.path()));
        }
        Ok(Self { url, access })
    }

    pub fn url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        }
    }

    fn headers(&self) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        if let Some((id, secret)) = &self.access {
            for (name, value) in [("cf-access-client-id", id), ("cf-access-client-secret", secret)] {
                let mut value = HeaderValue::from_str(value)
                    .map_err(|_| format!("the {name} from the environment is no header value"))?;
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        }
        Ok(headers)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = self.access.as_ref().map(|_| "REDACTED");
        out.debug_struct("Endpoint").field("url", &self.url()).field("access", &access).finish()
    }
}

/// A client of one server. Cloning shares the connections.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
    pub(super) timeouts: Timeouts,
}

impl Client {
    pub fn new(endpoint: Endpoint, timeouts: Timeouts) -> Result<Self, String> {
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(timeouts.connect)
            .default_headers(endpoint.headers()?)
            .tcp_nodelay(true);
        // Reading the system's certificates takes longer than a request.
        if endpoint.url.scheme() == "http" {
            builder = builder.tls_built_in_root_certs(false);
        }
        if endpoint.is_loopback() {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| format!("cannot make an HTTP client: {error}"))?;
        Ok(Self { http, endpoint, timeouts })
    }

    pub fn url(&self) -> &str {
        self.endpoint.url()
    }

    /// The longest that an answer may take.
    pub fn patience(&self) -> Duration {
        self.timeouts.total
    }

    /// `GET path`, a small JSON document.
    pub(super) async fn get(&self, path: &str) -> Result<Value, InferError> {
        let request = self.http.get(self.join(path)).timeout(self.timeouts.idle);
        self.small(request, None).await
    }

    /// `POST path`, a small JSON document each way.
    pub(super) async fn post(&self, path: &str, body: &Value, model: &str) -> Result<Value, InferError> {
        let request = self.http.post(self.join(path)).json(body).timeout(self.timeouts.idle);
        self.small(request, Some(model)).await
    }

    /// `POST path` with a JSON body: the answer with status 200, headers read, body not.
    pub(super) async fn stream(
        &self,
        path: &str,
        body: Vec<u8>,
        model: &str,
    ) -> Result<Response, InferError> {
        let request = self.http.post(self.join(path)).header(CONTENT_TYPE, "application/json").body(body);
        self.send(request, Some(model)).await
    }

    async fn small(
        &self,
        request: reqwest::RequestBuilder,
        model: Option<&str>,
    ) -> Result<Value, InferError> {
        let response = self.send(request, model).await?;
        let body = self.body(response).await?;
        serde_json::from_slice(&body)
            .map_err(|error| InferError::Garbage { detail: format!("not JSON: {error}") })
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        model: Option<&str>,
    ) -> Result<Response, InferError> {
        let response = request.send().await.map_err(|error| self.transport_error(&error))?;
        let status = response.status();
        if status.is_redirection() {
            let to = header(&response, LOCATION).unwrap_or_default();
            let to = Url::parse(&to).ok().and_then(|url| url.host_str().map(str::to_owned));
            let detail = format!("HTTP {} to {}", status.as_u16(), to.as_deref().unwrap_or("another path"));
            return Err(InferError::LoginPage { url: self.url().to_owned(), detail });
        }
        let content_type = header(&response, CONTENT_TYPE).unwrap_or_default();
        let is_page = content_type.starts_with("text/html");
        if is_page && !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
            let detail = format!("HTTP {}, text/html", status.as_u16());
            return Err(InferError::LoginPage { url: self.url().to_owned(), detail });
        }
        if status != StatusCode::OK {
            let retry_after = header(&response, RETRY_AFTER);
            let retry_after = retry_after.and_then(|text| pause(&text, header(&response, DATE).as_deref()));
            let body = self.body(response).await.unwrap_or_default();
            let body = String::from_utf8_lossy(&body);
            return Err(InferError::from_status(self.url(), model, status.as_u16(), retry_after, &body));
        }
        if !content_type.contains("json") {
            let detail = format!("the content type is {content_type:?}, not JSON");
            return Err(InferError::Garbage { detail });
        }
        Ok(response)
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, InferError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.transport_error(&error))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(InferError::Garbage { detail: format!("a body above {MAX_BODY} bytes") });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// A connection that never came about is the server's absence; one that broke, be it before a word was said, is
    /// this request's misfortune, and may be its fault.
    pub(super) fn transport_error(&self, error: &reqwest::Error) -> InferError {
        let reason = innermost(error);
        if error.is_connect() {
            return InferError::Unreachable { url: self.url().to_owned(), reason };
        }
        if error.is_timeout() {
            return InferError::TimedOut { what: "answer", seconds: self.timeouts.idle.as_secs() };
        }
        InferError::Broken { reason }
    }

    fn join(&self, path: &str) -> Url {
        self.endpoint.url.join(path).expect("a constant relative path joins any base URL")
    }
}

/// What `Retry-After` says: seconds, or a date, counted from the server's own: no clock is asked.
fn pause(retry_after: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = retry_after.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = parse_http_date(retry_after.trim()).ok()?;
    until.duration_since(parse_http_date(date?).ok()?).ok()
}

fn header(response: &Response, name: reqwest::header::HeaderName) -> Option<String> {
    response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

/// The last cause of an error: the outer ones repeat the URL.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_ollama_host() {
        for (given, want) in [
            ("127.0.0.1:11500", "http://127.0.0.1:11500"),
            ("gpu", "http://gpu:11434"),
            (":1234", "http://127.0.0.1:1234"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("http://localhost:1/", "http://localhost:1"),
            ("https://ollama.example.org", "https://ollama.example.org"),
            ("https://proxy.example.org/ollama", "https://proxy.example.org/ollama"),
        ] {
            assert_eq!(Endpoint::parse(given, None).unwrap().url(), want, "{given}");
        }
        for bad in ["", "ftp://x", "http://user:secret@x", "http://"] {
            let error = Endpoint::parse(bad, None).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_secret_does_not_show() {
        let endpoint = Endpoint::parse("x", Some(("id".into(), "hunter2".into()))).unwrap();
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }
}
