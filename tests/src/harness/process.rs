//! A child process: found beside the running test, logged into a file, killed when dropped.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Far above what a start takes on a loaded machine; reached only when something is broken.
const DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// A folder with binaries that come before those built beside the test: optimised ones, for `make soak-million`.
const BINARIES: &str = "E2E_BINARIES";

/// A binary of this workspace, in the target folder that the running executable lies in.
pub fn binary(name: &str) -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let chosen = std::env::var_os(BINARIES).map(|folder| PathBuf::from(folder).join(name));
    if let Some(chosen) = chosen.filter(|path| path.is_file()) {
        return Ok(chosen);
    }
    me.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not built: run `cargo build --workspace --bins` first"))
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a binary of this workspace; what it prints goes to `log`, after what is there.
    pub fn start(name: &str, configure: impl FnOnce(&mut Command), log: &Path) -> Result<Self> {
        let mut command = Command::new(binary(name)?);
        configure(&mut command);
        Self::spawn(name, command, log)
    }

    /// Starts any command in the same way.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder)?;
        }
        let out = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command.spawn().with_context(|| format!("{name} does not start"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits for the address that the process writes once it listens.
    pub fn address(&mut self, port_file: &Path) -> Result<String> {
        let port: u16 = self.until("listen", || {
            let text = fs::read_to_string(port_file).ok()?;
            text.trim_end().rsplit(':').next()?.parse().ok().filter(|_| text.ends_with('\n'))
        })?;
        Ok(format!("127.0.0.1:{port}"))
    }

    /// Polls until `ready` gives a value, or the process ends, or the deadline passes.
    pub fn until<T>(&mut self, what: &str, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            if let Some(value) = ready() {
                return Ok(value);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before it could {what}:\n{}", self.name, self.log());
            }
            if start.elapsed() > DEADLINE {
                bail!("{} did not {what} within {DEADLINE:?}:\n{}", self.name, self.log());
            }
            std::thread::sleep(POLL);
        }
    }

    /// SIGTERM: asks it to end.
    pub fn terminate(&self) -> Result<()> {
        let id = i32::try_from(self.child.id())?;
        kill_process(Pid::from_raw(id).context("a process id is not 0")?, Signal::TERM)?;
        Ok(())
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Waits until it ends by itself.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > DEADLINE {
                bail!("{} did not end within {DEADLINE:?}:\n{}", self.name, self.log());
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
