//! DuckDB's shell as a person has it, in the repository's folder; `deploy/deps/duckdb-cli.sh` gets it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

/// Far above what a script takes on a loaded machine.
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Shell {
    program: PathBuf,
    repository: PathBuf,
    /// Said before every script; prints nothing.
    before: String,
}

/// A shell that is left open, with what it attached; ended when dropped.
#[derive(Debug)]
pub struct OpenShell(Child);

impl Shell {
    pub fn find() -> Result<Self> {
        let repository = repository()?;
        let got = Command::new(repository.join("deploy/deps/duckdb-cli.sh")).output()?;
        ensure!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
        let program = PathBuf::from(String::from_utf8(got.stdout)?.trim_end());
        Ok(Self { program, repository, before: String::new() })
    }

    /// A shell with the httpfs extension of its version, for `s3://`; where that is, and the keys, it takes from
    /// its environment (`AWS_*`), so that no secret stands in a script.
    pub fn with_httpfs(program: &Path, extension: &str) -> Result<Self> {
        let before = format!(
            ".output /dev/null\nLOAD '{extension}';\nCREATE SECRET (TYPE s3, KEY_ID getenv('AWS_ACCESS_KEY_ID'), \
             SECRET getenv('AWS_SECRET_ACCESS_KEY'), REGION getenv('AWS_REGION'), \
             ENDPOINT regexp_replace(getenv('AWS_ENDPOINT_URL'), '^https?://|/$', '', 'g'), \
             USE_SSL starts_with(getenv('AWS_ENDPOINT_URL'), 'https:'), URL_STYLE 'path');\n.output\n"
        );
        Ok(Self { program: program.to_owned(), repository: repository()?, before })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["-unsigned", "-bail", "-json", "-init", "/dev/null"]).current_dir(&self.repository);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a script to its end, without any error; gives what it printed.
    pub fn run(&self, script: &str) -> Result<String> {
        let mut shell = self.command().spawn()?;
        shell
            .stdin
            .take()
            .context("stdin is piped")?
            .write_all(format!("{}{script}", self.before).as_bytes())?;
        let done = shell.wait_with_output()?;
        let (out, err) = (String::from_utf8(done.stdout)?, String::from_utf8_lossy(&done.stderr));
        ensure!(done.status.success() && err.is_empty(), "{script}\n{out}{err}");
        Ok(out)
    }

    /// The rows of one query, after some statements without an answer.
    pub fn rows(&self, before: &str, query: &str) -> Result<Vec<Value>> {
        let out = self.run(&format!("{before}\n{query};\n"))?;
        if out.trim().is_empty() { Ok(Vec::new()) } else { Ok(serde_json::from_str(&out)?) }
    }

    /// That two queries have the same rows, and some.
    pub fn same(&self, left: &str, right: &str, what: &str) -> Result<()> {
        let count = |query: &str| format!("(SELECT count(*) FROM ({query}))");
        let query = format!(
            "SELECT {} AS rows, {} AS left_only, {} AS right_only",
            count(left),
            count(&format!("({left}) EXCEPT ALL ({right})")),
            count(&format!("({right}) EXCEPT ALL ({left})")),
        );
        let found = &self.rows("", &query)?[0];
        ensure!(found["left_only"] == json!(0) && found["right_only"] == json!(0), "{what}: {found}");
        ensure!(found["rows"] != json!(0), "{what}: there are no rows");
        Ok(())
    }

    /// Runs a script and stays open. `mark` is a file that does not exist: it tells when the script is done.
    pub fn stay(&self, script: &str, mark: &Path) -> Result<OpenShell> {
        let mut shell = OpenShell(self.command().spawn()?);
        let stdin = shell.0.stdin.as_mut().context("stdin is piped")?;
        writeln!(stdin, "{}{script}\nCOPY (SELECT 1) TO '{}';", self.before, mark.display())?;
        stdin.flush()?;
        let start = Instant::now();
        while !mark.is_file() {
            ensure!(
                shell.0.try_wait()?.is_none() && start.elapsed() < DEADLINE,
                "the shell failed: {script}"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(shell)
    }
}

fn repository() -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?)
}

impl OpenShell {
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for OpenShell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
