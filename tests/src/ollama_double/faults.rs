//! What the double does wrong, or slowly, planned by its flags.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::Next as Handler,
    response::{Html, IntoResponse, Response},
};
use clap::{Args, ValueEnum};

use super::App;

/// Each counts chats from the first; a flag without a number means every chat.
#[derive(Debug, Default, Args)]
pub struct Faults {
    /// Answer the first N chats with 500.
    #[arg(long, value_name = "N", default_value_t = 0, num_args = 0..=1, default_missing_value = ALL)]
    pub fail_first: u64,
    /// Answer the first N chats with 503: the queue is full.
    #[arg(long, value_name = "N", default_value_t = 0, num_args = 0..=1, default_missing_value = ALL)]
    pub busy_first: u64,
    /// Cut the first N answers in half: done_reason length.
    #[arg(long, value_name = "N", default_value_t = 0, num_args = 0..=1, default_missing_value = ALL)]
    pub cut: u64,
    /// End the first N streams without done: true.
    #[arg(long, value_name = "N", default_value_t = 0, num_args = 0..=1, default_missing_value = ALL)]
    pub silent_end: u64,
    /// Answer the first N chats with 400: the input length exceeds the context length.
    #[arg(long, value_name = "N", default_value_t = 0, num_args = 0..=1, default_missing_value = ALL)]
    pub context_overflow: u64,
    /// Never answer the first N chats.
    #[arg(long, value_name = "N", default_value_t = 0, num_args = 0..=1, default_missing_value = ALL)]
    pub stall: u64,
    /// Begin the first N streams, and then say nothing more.
    #[arg(long, value_name = "N", default_value_t = 0, num_args = 0..=1, default_missing_value = ALL)]
    pub stall_midway: u64,
    /// Answer N chats at a time, as OLLAMA_NUM_PARALLEL says; the others wait. Without it: all at once.
    #[arg(long, value_name = "N")]
    pub parallel: Option<usize>,
    /// Wait MS milliseconds before each piece of a stream.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub pace: u64,
    /// Wrap every answer in a code fence, with a comma too many: as models do that heed no schema.
    #[arg(long)]
    pub untidy: bool,
    /// Have no model.
    #[arg(long)]
    pub missing_model: bool,
    /// After N chats the model is not there any more: somebody removed it.
    #[arg(long, value_name = "N")]
    pub lose_model_after: Option<u64>,
    /// Have the model in memory, and nothing of it on a GPU.
    #[arg(long)]
    pub on_cpu: bool,
    /// Take no JSON schema, whatever it is.
    #[arg(long)]
    pub refuse_schema: bool,
    /// Answer everything with a login page, as an access proxy does: with a redirect to it, or with 200; or refuse
    /// everything without a word.
    #[arg(long, value_name = "STATUS", num_args = 0..=1, default_missing_value = "302")]
    pub login_page: Option<LoginPage>,
    /// Answer with the login page's redirect unless the request has this id and secret of a service token.
    #[arg(long, value_name = "ID:SECRET")]
    pub access: Option<String>,
    /// After N chats the model has another digest: somebody pulled it again.
    #[arg(long, value_name = "N")]
    pub pull_again_after: Option<u64>,
    /// Chats so far.
    #[arg(skip)]
    chats: AtomicU64,
}

/// How an access proxy shows its login page, or what else it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LoginPage {
    #[value(name = "302")]
    Redirect,
    #[value(name = "200")]
    Page,
    /// As Ollama does with a foreign `Host`.
    #[value(name = "403")]
    Forbidden,
    /// As a load balancer does that has lost its servers.
    #[value(name = "404")]
    NoBackend,
}

const ALL: &str = "18446744073709551615";

/// What is to happen to a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Answer,
    Fail,
    Busy,
    Cut,
    SilentEnd,
    Overflow,
    Stall,
    StallMidway,
}

impl Faults {
    /// Of the next chat; where several are planned, the first of the flags above wins.
    pub fn next(&self) -> Next {
        let chat = self.chats.fetch_add(1, Ordering::Relaxed);
        let planned = [
            (self.fail_first, Next::Fail),
            (self.busy_first, Next::Busy),
            (self.cut, Next::Cut),
            (self.silent_end, Next::SilentEnd),
            (self.context_overflow, Next::Overflow),
            (self.stall, Next::Stall),
            (self.stall_midway, Next::StallMidway),
        ];
        planned.into_iter().find(|(first, _)| chat < *first).map_or(Next::Answer, |(_, next)| next)
    }

    pub fn has_no_model(&self) -> bool {
        let lost = self.lose_model_after.is_some_and(|after| self.chats.load(Ordering::Relaxed) > after);
        self.missing_model || lost
    }

    /// What an access proxy says to a request instead of letting it through.
    fn turned_away(&self, headers: &HeaderMap) -> Option<LoginPage> {
        let Some(token) = &self.access else { return self.login_page };
        let of = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let has = format!("{}:{}", of("cf-access-client-id"), of("cf-access-client-secret"));
        (has != *token).then_some(LoginPage::Redirect)
    }

    pub fn is_pulled_again(&self) -> bool {
        self.pull_again_after.is_some_and(|after| self.chats.load(Ordering::Relaxed) > after)
    }
}

pub async fn login_page(State(app): State<App>, request: Request, handler: Handler) -> Response {
    let page = Html("<!doctype html><title>STAND-IN: sign in</title>");
    let to = [(header::LOCATION, "https://login.example.org/cdn-cgi/access/login")];
    match app.faults.turned_away(request.headers()) {
        None => handler.run(request).await,
        Some(LoginPage::Redirect) => (StatusCode::FOUND, to, page).into_response(),
        Some(LoginPage::Page) => page.into_response(),
        Some(LoginPage::Forbidden) => StatusCode::FORBIDDEN.into_response(),
        Some(LoginPage::NoBackend) => (StatusCode::NOT_FOUND, "default backend - 404").into_response(),
    }
}
