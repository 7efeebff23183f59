//! A file system of a few megabytes that can be filled to its last byte: memory, mounted where nobody else sees it.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::process::{Process, binary};

const FILLER: &str = "filler";

/// Mounted as long as this lives, over a folder in a mount namespace of its own.
#[derive(Debug)]
pub struct SmallDisk {
    /// Whose namespace it is.
    holder: Process,
    at: PathBuf,
}

impl SmallDisk {
    /// The inner error: why nothing may be mounted here. To be root is not always enough.
    pub fn mount(at: &Path, megabytes: u32) -> Result<Result<Self, String>> {
        fs::create_dir_all(at)?;
        let mut command = Command::new("unshare");
        let script =
            format!("mount -t tmpfs -o size={megabytes}m none \"$0\" && echo mounted && exec sleep infinity");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(at);
        let log = at.with_extension("log");
        let mut holder = Process::spawn("unshare", command, &log)?;
        let told = || fs::read_to_string(&log).unwrap_or_default();
        let mounted = holder.until("mount", || told().contains("mounted").then_some(()));
        match mounted {
            Ok(()) => Ok(Ok(Self { holder, at: at.to_owned() })),
            Err(_) if ["permitted", "denied", "superuser"].iter().any(|word| told().contains(word)) => {
                Ok(Err(told()))
            }
            Err(error) => Err(error),
        }
    }

    /// Its path for who is inside.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// The same for who is not, as this process.
    pub fn from_outside(&self) -> PathBuf {
        let inside = self.at.strip_prefix("/").unwrap_or(&self.at);
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    /// A binary of this workspace, inside.
    pub fn command(&self, name: &str) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id())).arg("--").arg(binary(name)?);
        Ok(command)
    }

    /// Leaves no byte free.
    pub fn fill(&self) -> Result<()> {
        let mut filler = File::options().create(true).append(true).open(self.from_outside().join(FILLER))?;
        for size in [1 << 16, 1] {
            let bytes = vec![0; size];
            loop {
                match filler.write_all(&bytes) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error).context("it cannot be filled"),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.from_outside().join(FILLER))?)
    }
}
