//! This machine: room on its disks, and its clock beside those of the others.

use std::path::{Path, PathBuf};

use chrono::{TimeDelta, Utc};

use super::finding::{Clock, Found, Trouble};
use crate::{ctx::Ctx, env, failure::Failure};

pub(super) const LATE_FIX: &str = "look at the file systems of cache and lake: one hangs";
/// Less than this on a disk stops a pilot halfway.
const MIN_FREE: u64 = 1 << 30;
/// Times of one run no longer fit together.
const MAX_SKEW: TimeDelta = TimeDelta::seconds(5);
/// S3 refuses requests beyond it.
const REFUSED_SKEW: TimeDelta = TimeDelta::minutes(15);

/// Where staged objects, what DuckDB spills, and the lake go.
pub(super) async fn disk(ctx: &Ctx) -> Result<Found, Trouble> {
    let mut places = vec![(ctx.settings.cache.clone(), format!("set {} elsewhere", env::CACHE))];
    if !ctx.settings.lake.place.starts_with("md:") {
        places.push((PathBuf::from(&ctx.settings.lake.place), "give --lake elsewhere".to_owned()));
    }
    let mut told = Vec::new();
    for (place, elsewhere) in places {
        let place = std::path::absolute(&place).map_err(|error| Failure::file("find", &place, &error))?;
        let there = existing(&place);
        can_write(&there, &elsewhere)?;
        match free(&there).await {
            Some(bytes) if bytes < MIN_FREE => {
                return Err(Trouble::problem(
                    format!(
                        "{} has {} left, and a pilot wants {}",
                        place.display(),
                        gib(bytes),
                        gib(MIN_FREE)
                    ),
                    format!("make room, or {elsewhere}"),
                ));
            }
            Some(bytes) => told.push(format!("{} has {} left", place.display(), gib(bytes))),
            None => told.push(format!("{} can be written; `df` does not say how much", place.display())),
        }
    }
    Ok(Found::fine(told.join(", ")))
}

#[allow(clippy::cast_precision_loss, reason = "one digit after the point is shown")]
fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// As POSIX `df` tells it; None where it does not run.
async fn free(folder: &Path) -> Option<u64> {
    let mut df = tokio::process::Command::new("df");
    let output = df.arg("-Pk").arg(folder).kill_on_drop(true).output().await.ok()?;
    available(&String::from_utf8(output.stdout).ok()?)
}

fn available(df: &str) -> Option<u64> {
    let kibibytes: u64 = df.lines().nth(1)?.split_ascii_whitespace().nth(3)?.parse().ok()?;
    Some(kibibytes << 10)
}

/// The folder, or the nearest one above it that is there.
pub(super) fn existing(folder: &Path) -> PathBuf {
    folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

pub(super) fn can_write(folder: &Path, fix: &str) -> Result<(), Trouble> {
    tempfile::NamedTempFile::new_in(folder)
        .map(drop)
        .map_err(|error| Trouble::of(&Failure::file("write in", folder, &error), fix))
}

/// From what the others said; asks nobody.
pub(super) fn clock(clocks: &[Clock]) -> Result<Found, Trouble> {
    const FIX: &str = "let NTP set it (`timedatectl set-ntp true`), here or there";
    let Some(worst) = clocks.iter().max_by_key(|clock| clock.skew.abs()) else {
        let now = Utc::now().format("%Y-%m-%d %H:%M UTC");
        return Ok(Found::unasked(format!("{now}; nobody answered with a clock to compare")));
    };
    if worst.skew.abs() <= MAX_SKEW {
        let all: Vec<_> = clocks.iter().map(|clock| clock.whose).collect();
        return Ok(Found::fine(format!("within {} s of {}", MAX_SKEW.num_seconds(), all.join(", "))));
    }
    let side = if worst.skew > TimeDelta::zero() { "behind" } else { "ahead of" };
    let says = format!("this clock is {} s {side} {}", worst.skew.abs().num_seconds(), worst.whose);
    if worst.skew.abs() > REFUSED_SKEW {
        return Err(Trouble::problem(format!("{says}: S3 refuses requests beyond 900 s"), FIX));
    }
    Ok(Found::warning(says, FIX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::finding::Kind;

    #[test]
    fn free_space_is_read_as_posix_has_it() {
        let df = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 40 60 40% /a b\n";
        assert_eq!(available(df), Some(60 << 10));
        assert_eq!(available("df: no such file\n"), None);
    }

    #[test]
    fn clocks_that_differ_are_told() {
        let of = |whose, seconds| Clock { whose, skew: TimeDelta::seconds(seconds) };
        assert!(clock(&[]).is_ok_and(|found| matches!(found.kind, Kind::Unasked)));
        assert!(
            clock(&[of("the agent's", 5), of("Argilla's", -5)]).is_ok_and(|f| matches!(f.kind, Kind::Fine))
        );
        let found = clock(&[of("the agent's", 2), of("Argilla's", -6)]).expect("a warning");
        assert!(matches!(found.kind, Kind::Warning(_)));
        assert_eq!(found.says, "this clock is 6 s ahead of Argilla's");
        let told = clock(&[of("the object store's", 1000)]).expect_err("too far");
        assert!(told.found.starts_with("this clock is 1000 s behind the object store's"), "{}", told.found);
    }
}
