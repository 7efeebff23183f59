//! `doctor`, `check` and `signoff`: what stands in the way.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};
use proto::ids::BatchId;

use super::DocumentArgs;

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:\n  control doctor\n  control doctor --skip argilla --json\n\n\
                        Exit code 3: something is not configured as it must be; 4: something does not answer. \
                        Warnings do not count.")]
pub struct DoctorArgs {
    /// A prerequisite that this machine does without; may be repeated
    #[arg(long, value_enum, value_name = "NAME")]
    pub skip: Vec<Prerequisite>,
}

/// What a pilot needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Prerequisite {
    Store,
    Lake,
    Motherduck,
    Agent,
    Model,
    Argilla,
    Disk,
    Clock,
}

#[derive(Debug, Clone, Default, Args)]
#[command(after_help = "Examples:\n  control check pilot-1\n  control check --doc-id register-001\n\n\
                        Exit code 1: a check failed. A check without its input says NOT RUN, which is no pass.")]
pub struct CheckArgs {
    /// The batch; without one, only the checks that need none
    pub batch: Option<BatchId>,
    /// Which documents [default: the batch's, else all]
    #[command(flatten)]
    pub documents: DocumentArgs,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:\n  control signoff pilot-1 --by 'Ada Lovelace'\n  \
                        control signoff pilot-1 --investigated 3='page 7 was typed by hand, see ticket 12'\n\n\
                        Exit code 1: a gate fails; nothing is signed. Only check 3 can be waved through.")]
pub struct SignoffArgs {
    pub batch: BatchId,
    /// A failing check that was looked into, and why it is accepted
    #[arg(long, value_name = "CHECK=WHY")]
    pub investigated: Vec<Investigated>,
    /// Who signs [env: USER]
    #[arg(long, value_name = "NAME")]
    pub by: Option<String>,
    /// Where the pilot log goes [default: ./pilot-log/<batch>]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// `3=why`: the findings of a check that can be accepted, and why they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Investigated {
    pub check: u32,
    pub why: String,
}

/// Text hashes: the one gate that the runbook lets pass when it was looked into.
pub const CAN_BE_INVESTIGATED: u32 = 3;

impl FromStr for Investigated {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (check, why) = text.split_once('=').ok_or("write CHECK=WHY, e.g. 3='typed by hand'")?;
        let check = check.trim().parse().map_err(|_| format!("{check:?} is no check number"))?;
        if check != CAN_BE_INVESTIGATED {
            return Err(format!("check {check} must pass: only hash mismatches (check 3) can be accepted"));
        }
        let why = why.trim().to_owned();
        if why.is_empty() {
            return Err("say why: the reason is recorded".to_owned());
        }
        Ok(Self { check, why })
    }
}
