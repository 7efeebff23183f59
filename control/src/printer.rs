//! All that a person or a program gets to see: answers on stdout, everything else on stderr.
//!
//! With `--json`, stdout holds exactly one JSON document, and an error is one on stderr.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::failure::Failure;

/// What a command answers with.
pub trait Answer: Serialize {
    /// As people read it: lines, the last one ended.
    fn text(&self) -> String;

    /// As it looks on a terminal: as wide as that is, and in colour.
    fn on_screen(&self) -> String {
        self.text()
    }

    /// The gate that it shows as failed: told after the answer, with exit code 1.
    fn gate(&self) -> Option<String> {
        None
    }

    /// What it shows as failed, told after the answer: the gate, or a failure of another exit code.
    fn failure(&self) -> Option<Failure> {
        self.gate().map(Failure::Gate)
    }
}

type Stream = Mutex<Box<dyn Write + Send>>;

pub struct Printer {
    json: bool,
    out: Stream,
    err: Stream,
    /// Stderr is a terminal that somebody looks at.
    live: bool,
    /// Stdout is a terminal.
    screen: bool,
}

impl Printer {
    pub fn std(json: bool) -> Self {
        let live = !json && io::stderr().is_terminal();
        let screen = io::stdout().is_terminal();
        Self {
            json,
            out: Mutex::new(Box::new(io::stdout())),
            err: Mutex::new(Box::new(io::stderr())),
            live,
            screen,
        }
    }

    /// Prints into these; shows no progress.
    pub fn into(json: bool, out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        let (out, err) = (Mutex::new(Box::new(out) as _), Mutex::new(Box::new(err) as _));
        Self { json, out, err, live: false, screen: false }
    }

    pub fn is_json(&self) -> bool {
        self.json
    }

    /// The answer, once, at the end of a command.
    pub fn answer(&self, answer: &impl Answer) {
        if self.json {
            self.document(&self.out, answer);
        } else if self.screen {
            print(&self.out, &answer.on_screen());
        } else {
            print(&self.out, &answer.text());
        }
    }

    /// A line for people, while the command goes on.
    pub fn note(&self, line: &str) {
        if !self.json {
            print(&self.err, &format!("{line}\n"));
        }
    }

    pub fn failure(&self, failure: &Failure) {
        if self.json {
            self.document(&self.err, &failure.doc());
        } else {
            print(&self.err, &format!("error: {failure}\n"));
        }
    }

    /// A bar up to `total` (unknown: a spinner); it shows only where somebody looks, and goes when dropped.
    pub fn progress(&self, what: &str, total: Option<u64>) -> Progress {
        let target = if self.live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = if total.is_some() {
            "{prefix} {bar:16} {pos}/{len} {wide_msg}"
        } else {
            "{prefix} {spinner} {msg}"
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Progress(bar)
    }

    fn document(&self, stream: &Stream, document: &impl Serialize) {
        match serde_json::to_string_pretty(document) {
            Ok(text) => print(stream, &format!("{text}\n")),
            Err(error) => {
                print(&self.err, &format!("error: the answer cannot be written as JSON: {error}\n"))
            }
        }
    }
}

/// A reader that has gone away is no failure of ours.
fn print(stream: &Stream, text: &str) {
    let mut stream: MutexGuard<'_, _> = stream.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

/// A bar on stderr; gone when dropped.
pub struct Progress(ProgressBar);

impl Progress {
    pub fn at(&self, position: u64) {
        self.0.set_position(position);
    }

    pub fn total(&self, total: u64) {
        self.0.set_length(total);
    }

    pub fn message(&self, message: impl Into<String>) {
        self.0.set_message(message.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use super::*;

    /// A stream that can be read back.
    #[derive(Clone, Default)]
    pub struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        pub fn text(&self) -> String {
            String::from_utf8_lossy(&self.0.lock().expect("not poisoned")).into_owned()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Serialize)]
    struct Two {
        pages: u64,
    }

    impl Answer for Two {
        fn text(&self) -> String {
            format!("{} pages\n", self.pages)
        }
    }

    fn printed(json: bool) -> (String, String) {
        let (out, err) = (Captured::default(), Captured::default());
        let printer = Printer::into(json, out.clone(), err.clone());
        printer.note("on the way");
        printer.progress("pages", Some(2)).at(1);
        printer.answer(&Two { pages: 2 });
        printer.failure(&Failure::data("no such batch"));
        (out.text(), err.text())
    }

    #[test]
    fn answers_and_errors_go_to_their_streams() {
        assert_eq!(printed(false), ("2 pages\n".into(), "on the way\nerror: no such batch\n".into()));
    }

    #[test]
    fn json_is_one_document_a_stream() {
        let (out, err) = printed(true);
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("one document");
        assert_eq!(parse(&out), serde_json::json!({"pages": 2}));
        assert_eq!(
            parse(&err),
            serde_json::json!({"error": "data", "message": "no such batch", "exit_code": 5})
        );
    }
}
