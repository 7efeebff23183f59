//! Against a socket that sends exactly the bytes each test gives, in the frames it gives.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::{Class, Endpoint, Timeouts};
use super::*;

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n";

fn params() -> ModelParams {
    ModelParams { model: "m".into(), num_ctx: 1000, num_predict: 100 }
}

/// Serves one request with `frames`, each flushed on its own, then closes, or hangs when `hang`.
async fn ask(frames: Vec<Vec<u8>>, hang: bool) -> Result<Completion, InferError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.set_nodelay(true).unwrap();
        let mut request = vec![0; 65536];
        let _ = socket.read(&mut request).await.unwrap();
        for frame in frames {
            socket.write_all(&frame).await.unwrap();
            socket.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
        if hang {
            std::future::pending::<()>().await;
        }
    });
    let timeouts = Timeouts {
        connect: Duration::from_secs(5),
        idle: Duration::from_millis(200),
        total: Duration::from_secs(5),
    };
    let client = Client::new(Endpoint::parse(&address, None).unwrap(), timeouts).unwrap();
    let answer = client.chat(b"{}".to_vec(), &params()).await;
    server.abort();
    answer
}

async fn ask_text(text: String) -> Result<Completion, InferError> {
    ask(vec![text.into_bytes()], false).await
}

fn line(content: &str) -> String {
    format!("{}\n", serde_json::json!({"message": {"role": "assistant", "content": content}, "done": false}))
}

fn end(reason: &str, prompt_tokens: u64) -> String {
    let end = serde_json::json!({
        "message": {"content": ""}, "done": true, "done_reason": reason,
        "prompt_eval_count": prompt_tokens, "eval_count": 7, "total_duration": 1, "load_duration": 1,
    });
    format!("{end}\n")
}

#[tokio::test]
async fn an_answer_cut_into_single_bytes_is_read_whole() {
    let text = format!("{JSON}{}{}{}", line("{\"a\":\"é"), line("船\"}"), end("stop", 50));
    let frames = text.bytes().map(|byte| vec![byte]).collect();
    let completion = ask(frames, false).await.unwrap();
    assert_eq!(completion.content, "{\"a\":\"é船\"}");
    assert_eq!((completion.prompt_tokens, completion.output_tokens), (Some(50), Some(7)));
}

#[tokio::test]
async fn logprobs_are_those_of_the_words_and_other_shapes_are_none() {
    let said = |content: &str, logprobs: serde_json::Value| {
        format!("{}\n", serde_json::json!({"message": {"content": content}, "logprobs": logprobs}))
    };
    let one = serde_json::json!([{"token": "{\"", "logprob": -0.5, "bytes": [123, 34], "top_logprobs": []}]);
    let known = ask_text(format!("{JSON}{}{}", said("{\"", one), end("stop", 50))).await.unwrap();
    let probability = known.logprobs.probability(&(0..2)).expect("known");
    assert!((probability - (-0.5f64).exp()).abs() < 1e-4, "{probability}");
    for other in
        [serde_json::json!({"content": [{"token": "x"}]}), serde_json::json!(null), serde_json::json!(true)]
    {
        let unknown = ask_text(format!("{JSON}{}{}", said("{}", other), end("stop", 50))).await.unwrap();
        assert_eq!((unknown.content.as_str(), unknown.logprobs.probability(&(0..2))), ("{}", None));
    }
}

#[tokio::test]
async fn metrics_may_be_absent() {
    let completion = ask_text(format!("{JSON}{}{{\"done\":true}}\n", line("{}"))).await.unwrap();
    assert_eq!(completion, Completion { content: "{}".into(), ..Completion::default() });
}

#[tokio::test]
async fn the_last_line_needs_no_line_break() {
    let text = format!("{JSON}{}{}", line("{}"), end("stop", 1).trim_end());
    assert_eq!(ask_text(text).await.unwrap().content, "{}");
}

#[tokio::test]
async fn an_end_without_done_is_a_failure() {
    assert_eq!(ask_text(format!("{JSON}{}", line("{\"mentions\":[]}"))).await, Err(InferError::NoDone));
    assert_eq!(ask_text(JSON.to_owned()).await, Err(InferError::NoDone));
}

#[tokio::test]
async fn an_error_line_under_200_is_an_error() {
    let error = ask_text(format!("{JSON}{}{{\"error\":\"unexpected EOF\"}}\n", line("{"))).await.unwrap_err();
    assert_eq!(error, InferError::MidStream { message: "unexpected EOF".into() });
}

#[tokio::test]
async fn cut_answers_and_cut_prompts_are_no_answers() {
    let cut = ask_text(format!("{JSON}{}{}", line("{"), end("length", 50))).await;
    let partial = Completion {
        content: "{".into(),
        prompt_tokens: Some(50),
        output_tokens: Some(7),
        ..Completion::default()
    };
    assert_eq!(cut, Err(InferError::AnswerCut { partial: Partial::new(partial) }));
    let silent = ask_text(format!("{JSON}{}{}", line("{}"), end("stop", 999))).await;
    assert_eq!(silent, Err(InferError::PromptCut { prompt_tokens: 999, num_ctx: 1000 }));
}

#[tokio::test]
async fn runaways_are_stopped_before_their_end() {
    let blank: String = (0..300).map(|_| line("  \n")).collect();
    let error = ask(vec![format!("{JSON}{}{blank}", line("{")).into_bytes()], true).await.unwrap_err();
    assert_eq!(error.class(), Class::BadAnswer);
    let long: String = (0..10).map(|_| line(&"x".repeat(1000))).collect();
    let error = ask(vec![format!("{JSON}{long}").into_bytes()], true).await.unwrap_err();
    assert!(matches!(error, InferError::Runaway { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_falls_silent_times_out() {
    let error = ask(vec![format!("{JSON}{}", line("{")).into_bytes()], true).await.unwrap_err();
    assert!(matches!(error, InferError::TimedOut { what: "next chunk", .. }), "{error}");
}

#[tokio::test]
async fn web_pages_and_redirects_are_a_login() {
    let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html; charset=UTF-8\r\ncontent-length: 6\r\n\r\n<html>";
    let redirect = "HTTP/1.1 302 Found\r\nlocation: https://team.cloudflareaccess.com/login?token=abc\r\ncontent-length: 0\r\n\r\n";
    for answer in [page, redirect] {
        let error = ask_text(answer.to_owned()).await.unwrap_err();
        assert!(matches!(error, InferError::LoginPage { .. }), "{error}");
        assert!(!error.to_string().contains("token"), "{error}");
    }
}

#[tokio::test]
async fn a_proxys_error_page_is_judged_by_its_status() {
    let page = "HTTP/1.1 502 Bad Gateway\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>";
    assert_eq!(ask_text(page.to_owned()).await.unwrap_err().class(), Class::Away { retry_after: None });
    let dated = "HTTP/1.1 503 Busy\r\ndate: Fri, 31 Dec 1999 23:59:30 GMT\r\nretry-after: Sat, 01 Jan 2000 00:00:10 \
                 GMT\r\ncontent-length: 0\r\n\r\n";
    let class = ask_text(dated.to_owned()).await.unwrap_err().class();
    assert_eq!(class, Class::Away { retry_after: Some(Duration::from_secs(40)) });
    let busy = "HTTP/1.1 429 Too Many\r\nretry-after: 9\r\ncontent-length: 0\r\n\r\n";
    let class = ask_text(busy.to_owned()).await.unwrap_err().class();
    assert_eq!(class, Class::Away { retry_after: Some(Duration::from_secs(9)) });
}

#[tokio::test]
async fn a_connection_that_breaks_is_transient_and_none_at_all_is_absence() {
    let half = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"mess";
    assert_eq!(ask_text(half.to_owned()).await.unwrap_err().class(), Class::Transient);

    // Before a word was said: a page that the server dies of must not count as its absence, again and again.
    assert!(matches!(ask(Vec::new(), false).await, Err(InferError::Broken { .. })));

    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let client = Client::new(Endpoint::parse(&free, None).unwrap(), Timeouts::default()).unwrap();
    let error = client.chat(b"{}".to_vec(), &params()).await.unwrap_err();
    assert_eq!(error.class(), Class::Away { retry_after: None });
}

#[tokio::test]
async fn what_is_not_ollama_is_garbage() {
    let error = ask_text(format!("{JSON}hello\n")).await.unwrap_err();
    assert!(matches!(error, InferError::Garbage { .. }), "{error}");
    let text = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nOK";
    let error = ask_text(text.to_owned()).await.unwrap_err();
    assert!(error.to_string().contains("text/plain"), "{error}");
}
