//! Keeps secrets out of what people and logs get to see.
//!
//! A setting that is a secret has a type that does not print (`settings::Secret`). What is left are secrets within
//! something else: a user and a password in a URL, and a key that a service repeats in its answer.

use proto::store::Env;
use url::Url;

use crate::settings::{Secret, Settings};

const REDACTED: &str = "REDACTED";
/// A shorter one hides nothing, and would be found in every other word.
const MIN_BYTES: usize = 4;

/// A URL without user, password, query and fragment.
pub fn url(text: &str) -> String {
    let Some(mut url) = Url::parse(text).ok().filter(Url::has_host) else {
        // No scheme: what stands before the @ may hold a password all the same.
        return text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned();
    };
    let bare = url.username().is_empty() && url.password().is_none();
    if bare && url.query().is_none() && url.fragment().is_none() {
        return text.to_owned();
    }
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.to_string()
}

/// Every secret that a command was given.
pub struct Secrets(Vec<String>);

impl Secrets {
    pub fn of(settings: &Settings, env: &Env) -> Self {
        let exposed = |secret: &Option<Secret>| secret.as_ref().map(|secret| secret.expose().to_owned());
        let mut secrets: Vec<String> = [
            exposed(&settings.lake.motherduck_token),
            exposed(&settings.agent.token),
            exposed(&settings.argilla.api_key),
            settings.access.as_ref().map(|access| access.id.expose().to_owned()),
            settings.access.as_ref().map(|access| access.secret.expose().to_owned()),
        ]
        .into_iter()
        .flatten()
        .collect();
        secrets.extend(env.iter().filter(|(name, _)| is_secret(name)).map(|(_, value)| value.clone()));
        let urls = [Some(&settings.agent.url), settings.argilla.url.as_ref(), settings.ollama.host.as_ref()];
        let endpoints = env.iter().filter(|(name, _)| name.contains("ENDPOINT")).map(|(_, value)| value);
        for text in urls.into_iter().flatten().chain(endpoints) {
            let authority = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
            let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
            if let Some((user, _)) = authority.rsplit_once('@') {
                secrets.push(user.to_owned());
                secrets.extend(user.split_once(':').map(|(_, password)| password.to_owned()));
            }
        }
        secrets.retain(|secret| secret.len() >= MIN_BYTES);
        // A longer one may hold a shorter one.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        Self(secrets)
    }

    pub fn scrub(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret, REDACTED))
    }
}

/// Of the object stores' own variables; an access key's id is a name, no secret.
fn is_secret(name: &str) -> bool {
    let store = ["AWS_", "GOOGLE_", "AZURE_"].iter().any(|prefix| name.starts_with(prefix));
    let words = ["SECRET", "TOKEN", "PASSWORD", "SAS", "ACCESS_KEY", "ACCOUNT_KEY", "ACCOUNT_STORAGE_KEY"];
    store
        && words.iter().any(|word| name.contains(word))
        && !name.ends_with("_ID")
        && !name.ends_with("_FILE")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::GlobalArgs;

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (given, shown) in [
            ("http://127.0.0.1:6900", "http://127.0.0.1:6900"),
            ("https://anna:hunter2@argilla.example/base", "https://argilla.example/base"),
            ("https://argilla.example/?token=hunter2#x", "https://argilla.example/"),
            ("anna:hunter2@argilla.example", "argilla.example"),
            ("", ""),
        ] {
            assert_eq!(url(given), shown);
        }
    }

    #[test]
    fn every_secret_is_taken_out_of_a_text() {
        let vars = [
            ("ARGILLA_API_KEY", "argilla-hunter2"),
            ("MOTHERDUCK_TOKEN", "md-hunter2"),
            ("AWS_SECRET_ACCESS_KEY", "aws-hunter2"),
            ("AWS_ACCESS_KEY_ID", "AKIA"),
            ("AWS_ENDPOINT_URL", "http://root:minio-hunter2@127.0.0.1:9000/x@y"),
            ("OLLAMA_HOST", "anna:gpu-hunter2@gpu:11434"),
            ("CF_ACCESS_CLIENT_ID", "cf-hunter2"),
            ("CF_ACCESS_CLIENT_SECRET", "cf-hunter2-and-more"),
        ];
        let vars: Env = vars.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let settings = Settings::resolve(&GlobalArgs::default(), &vars).expect("settings");
        let all: Vec<&str> = vars.values().map(String::as_str).collect();
        let shown = Secrets::of(&settings, &vars).scrub(&all.join(" | "));
        assert!(!shown.contains("hunter2") && shown.contains("AKIA"), "{shown}");
        assert!(shown.contains("http://REDACTED@127.0.0.1:9000/x@y"), "{shown}");
        assert!(shown.contains("REDACTED@gpu:11434") && !shown.contains("and-more"), "{shown}");
    }
}
