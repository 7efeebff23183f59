//! Flags, environment and `control.toml` as one checked whole, before anything is opened.
//!
//! ```text
//! flags ─► environment (a map) ─► control.toml ─► defaults ─► Settings
//! ```
//! Relative paths count from the working folder, wherever they are written. An empty variable is an unset one.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use proto::store::Env;
use serde::Deserialize;

use crate::{cli::GlobalArgs, env, failure::Failure};

const DEFAULT_CONFIG: &str = "control.toml";
const DEFAULT_ROOT: &str = "./data";
const DEFAULT_LAKE: &str = "./lake";
const DEFAULT_AGENT: &str = "http://127.0.0.1:50051";
const DEFAULT_WORKSPACE: &str = "vessels";
const DEFAULT_LOCK_TIMEOUT: u64 = 30;

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// For the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("REDACTED")
    }
}

/// What every command works with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// A folder or a URI; `Ctx::store` opens it.
    pub root: String,
    pub lake: LakeSettings,
    pub agent: AgentSettings,
    pub argilla: ArgillaSettings,
    pub ollama: OllamaSettings,
    /// A folder for staged objects and for what DuckDB spills.
    pub cache: PathBuf,
    /// Who is at the keyboard.
    pub user: Option<String>,
    /// Cloudflare Access, where it stands in front of a service.
    pub access: Option<Access>,
}

#[derive(Debug, Clone)]
pub struct LakeSettings {
    /// A folder, or `md:`.
    pub place: String,
    pub lock_timeout: Duration,
    pub motherduck_token: Option<Secret>,
}

#[derive(Debug, Clone)]
pub struct AgentSettings {
    pub url: String,
    pub token: Option<Secret>,
    /// A PEM file.
    pub ca: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct ArgillaSettings {
    pub url: Option<String>,
    pub api_key: Option<Secret>,
    pub workspace: String,
}

/// Where the agent's model server is, for who asks it directly.
#[derive(Debug, Clone)]
pub struct OllamaSettings {
    pub host: Option<String>,
    pub model: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Access {
    pub id: Secret,
    pub secret: Secret,
}

/// `control.toml`: every key is optional, an unknown one is an error. Secrets stand in files of their own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    root: Option<String>,
    lake: Option<String>,
    lock_timeout: Option<u64>,
    cache: Option<PathBuf>,
    motherduck_token_file: Option<PathBuf>,
    #[serde(default)]
    agent: AgentFile,
    #[serde(default)]
    argilla: ArgillaFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentFile {
    url: Option<String>,
    token_file: Option<PathBuf>,
    ca: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ArgillaFile {
    url: Option<String>,
    api_key_file: Option<PathBuf>,
    workspace: Option<String>,
}

impl Settings {
    pub fn resolve(flags: &GlobalArgs, vars: &Env) -> Result<Self, Failure> {
        let file = File::read(flags.config.as_deref())?;
        let text = |flag: Option<&String>, name: &str, written: Option<String>| {
            flag.cloned().or_else(|| var(vars, name)).or(written)
        };
        let lock_timeout = flags.lock_timeout.or(file.lock_timeout).unwrap_or(DEFAULT_LOCK_TIMEOUT);
        Ok(Self {
            root: text(flags.root.as_ref(), env::ROOT, file.root).unwrap_or_else(|| DEFAULT_ROOT.into()),
            lake: LakeSettings {
                place: text(flags.lake.as_ref(), env::LAKE, file.lake).unwrap_or_else(|| DEFAULT_LAKE.into()),
                lock_timeout: Duration::from_secs(lock_timeout),
                motherduck_token: secret(vars, env::MOTHERDUCK_TOKEN, file.motherduck_token_file)?,
            },
            agent: AgentSettings {
                url: text(flags.agent.as_ref(), env::AGENT_URL, file.agent.url)
                    .unwrap_or_else(|| DEFAULT_AGENT.into()),
                token: secret(vars, env::AGENT_TOKEN, file.agent.token_file)?,
                ca: var(vars, env::AGENT_CA).map(PathBuf::from).or(file.agent.ca),
            },
            argilla: ArgillaSettings {
                url: var(vars, env::ARGILLA_API_URL).or(file.argilla.url),
                api_key: secret(vars, env::ARGILLA_API_KEY, file.argilla.api_key_file)?,
                workspace: var(vars, env::ARGILLA_WORKSPACE)
                    .or(file.argilla.workspace)
                    .unwrap_or_else(|| DEFAULT_WORKSPACE.into()),
            },
            ollama: OllamaSettings { host: var(vars, env::OLLAMA_HOST), model: var(vars, env::OLLAMA_MODEL) },
            cache: var(vars, env::CACHE)
                .map(PathBuf::from)
                .or(file.cache)
                .unwrap_or_else(|| default_cache(vars)),
            user: var(vars, env::USER),
            access: access(vars)?,
        })
    }
}

impl File {
    fn read(asked: Option<&Path>) -> Result<Self, Failure> {
        let path = asked.unwrap_or(Path::new(DEFAULT_CONFIG));
        match fs::read_to_string(path) {
            Ok(toml) => toml::from_str(&toml)
                .map_err(|error| Failure::config(format!("{}: {}", path.display(), one_line(&error)))),
            Err(error) if error.kind() == io::ErrorKind::NotFound && asked.is_none() => Ok(Self::default()),
            Err(error) => Err(Failure::file("read", path, &error)),
        }
    }
}

/// Without the source excerpt that the parser prints below it: a line may hold a secret put there by mistake.
fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', ", ")
}

fn var(vars: &Env, name: &str) -> Option<String> {
    vars.get(name).filter(|value| !value.is_empty()).cloned()
}

fn secret(vars: &Env, name: &str, file: Option<PathBuf>) -> Result<Option<Secret>, Failure> {
    if let Some(value) = var(vars, name) {
        return Ok(Some(Secret(value)));
    }
    let Some(path) = file else { return Ok(None) };
    let text = fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))?;
    match text.trim() {
        "" => Err(Failure::config(format!("{} holds no secret: write one line into it", path.display()))),
        value => Ok(Some(Secret::new(value))),
    }
}

fn access(vars: &Env) -> Result<Option<Access>, Failure> {
    match (var(vars, env::ACCESS_ID), var(vars, env::ACCESS_SECRET)) {
        (Some(id), Some(secret)) => Ok(Some(Access { id: Secret(id), secret: Secret(secret) })),
        (None, None) => Ok(None),
        _ => Err(Failure::config(format!(
            "set {} and {} both, or neither",
            env::ACCESS_ID,
            env::ACCESS_SECRET
        ))),
    }
}

fn default_cache(vars: &Env) -> PathBuf {
    let cache = var(vars, env::CACHE_HOME)
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(var(vars, env::HOME)?).join(".cache")));
    cache.unwrap_or_else(std::env::temp_dir).join("preannotate")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Env {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn config(toml: &str) -> (tempfile::TempDir, GlobalArgs) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.toml");
        fs::write(&path, toml).expect("written");
        (folder, GlobalArgs { config: Some(path), ..GlobalArgs::default() })
    }

    #[test]
    fn without_anything_the_defaults_hold() {
        let (_folder, flags) = config("");
        let settings = Settings::resolve(&flags, &vars(&[("HOME", "/h")])).expect("settings");
        assert_eq!((settings.root.as_str(), settings.lake.place.as_str()), ("./data", "./lake"));
        assert_eq!(settings.agent.url, "http://127.0.0.1:50051");
        assert_eq!(settings.argilla.workspace, "vessels");
        assert_eq!(settings.cache, Path::new("/h/.cache/preannotate"));
        assert_eq!(settings.lake.lock_timeout, Duration::from_secs(30));
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let (_folder, mut flags) =
            config("root = '/file'\nlake = '/file'\nlock_timeout = 7\n[agent]\nurl = 'http://file'");
        flags.root = Some("/flag".into());
        let env = vars(&[("PREANNOTATE_ROOT", "/env"), ("PREANNOTATE_LAKE", "/env"), ("DGX_AGENT_URL", "")]);
        let settings = Settings::resolve(&flags, &env).expect("settings");
        assert_eq!(settings.root, "/flag");
        assert_eq!(settings.lake.place, "/env");
        assert_eq!(settings.agent.url, "http://file");
        assert_eq!(settings.lake.lock_timeout, Duration::from_secs(7));
    }

    #[test]
    fn an_unknown_key_and_a_missing_file_are_refused() {
        let (_folder, flags) = config("rot = 's3cret'");
        let error = Settings::resolve(&flags, &Env::new()).expect_err("unknown");
        assert_eq!(error.exit_code(), 3);
        assert!(error.to_string().contains("unknown field `rot`"), "{error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
        let flags = GlobalArgs { config: Some("/none.toml".into()), ..GlobalArgs::default() };
        assert_eq!(Settings::resolve(&flags, &Env::new()).expect_err("missing").exit_code(), 3);
    }

    #[test]
    fn secrets_come_from_environment_or_file_and_are_never_shown() {
        let (folder, mut flags) = config("");
        let key = folder.path().join("key");
        fs::write(&key, "file-hunter2\n").expect("written");
        let toml = format!("[argilla]\napi_key_file = '{}'", key.display());
        fs::write(folder.path().join("c.toml"), toml).expect("written");
        let env = vars(&[
            ("MOTHERDUCK_TOKEN", "md-hunter2"),
            ("CF_ACCESS_CLIENT_ID", "id-hunter2"),
            ("CF_ACCESS_CLIENT_SECRET", "cf-hunter2"),
        ]);
        let settings = Settings::resolve(&flags, &env).expect("settings");
        assert_eq!(settings.argilla.api_key.as_ref().map(Secret::expose), Some("file-hunter2"));
        let shown = format!("{settings:?}");
        assert!(!shown.contains("hunter2") && shown.contains("REDACTED"), "{shown}");

        fs::write(&key, " \n").expect("written");
        assert_eq!(Settings::resolve(&flags, &env).expect_err("empty").exit_code(), 3);
        flags.config = None;
        let half = vars(&[("CF_ACCESS_CLIENT_SECRET", "hunter2")]);
        let error = Settings::resolve(&flags, &half).expect_err("half").to_string();
        assert!(error.contains("both, or neither") && !error.contains("hunter2"), "{error}");
    }
    /// deploy/config/control.example.toml names every key, says what it is for, and parses, commented keys too.
    #[test]
    fn the_example_names_every_key_and_parses() {
        let example = include_str!("../../deploy/config/control.example.toml");
        let is_key =
            |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '>', '"']));
        let uncommented: String = example
            .lines()
            .map(|line| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line))
            .flat_map(|line| [line, "\n"])
            .collect();
        for toml in [example, &uncommented] {
            toml::from_str::<File>(toml).expect("the example parses");
        }
        // Without `..`: a new key does not compile until it is named here, and fails until the example has it.
        let File { root, lake, lock_timeout, cache, motherduck_token_file, agent, argilla } =
            toml::from_str(&uncommented).expect("the example parses");
        let AgentFile { url, token_file, ca } = agent;
        let named = [root.is_some(), lake.is_some(), lock_timeout.is_some(), cache.is_some()];
        assert_eq!((named, motherduck_token_file.is_some()), ([true; 4], true));
        assert_eq!([url.is_some(), token_file.is_some(), ca.is_some()], [true; 3]);
        let ArgillaFile { url, api_key_file, workspace } = argilla;
        assert_eq!([url.is_some(), api_key_file.is_some(), workspace.is_some()], [true; 3]);

        let settings = Settings::resolve(&config(example).1, &Env::new());
        assert_eq!(settings.expect("settings without a secret at hand").lake.place, DEFAULT_LAKE);
    }
}
