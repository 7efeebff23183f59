//! Arguments as they are typed. What they come to, with the environment, is the business of `config`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use proto::ids::BatchId;

use crate::{batch::Shard, engine::Engine, infer::Concurrency};

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the job failed, 2 usage, 3 configuration, 4 a service is \
                          unreachable, 5 data is bad, 130 interrupted.";

const EXAMPLE: &str = "Example:\n  dgx-agent run --root ./data --batch-id pilot-1";

#[derive(Debug, Parser)]
#[command(
    name = "dgx-agent",
    version,
    about = "Suggests spans for the pages of a batch, with a model on Ollama or with rules",
    after_help = format!("{EXAMPLE}\n\n{EXIT_CODES}")
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// The daemon: takes batches over gRPC and works on them, some at once, by their weights
    #[command(
        after_help = "Example:\n  dgx-agent serve --root s3://lake/ocr --engine ollama --model qwen3:8b"
    )]
    Serve(ServeArgs),
    /// Work on one batch, or a shard of it, and end
    #[command(after_help = "Examples:\n  dgx-agent run --root ./data --batch-id pilot-1\n  \
                            dgx-agent run --root s3://lake/ocr --batch-id b7 --engine ollama --model qwen3:8b \
                            --shard 0/4\n\n\
                            Exit code 0: the batch is complete, or the shard is done (pages that failed are \
                            counted in the outcomes); 4: the store or the model server is not there: at the start it \
                            ends at once, later the store is waited for (--patience) and the model server without an \
                            end; 5: some files could not be read, all others are done. After any of them the same \
                            command goes on from what is committed.")]
    Run(RunArgs),
    /// Find mentions in their page: JSON lines on stdin, one answer a line on stdout
    #[command(after_help = "Example:\n  \
                            echo '{\"id\": 1, \"text\": \"IMO 9074729\", \"mentions\": [{\"label\": \"IMO\", \
                            \"text\": \"9074729\"}]}' | dgx-agent ground\n\n\
                            Exit code 5: a line was bad; it has {id, error} in its place.")]
    Ground(GroundArgs),
    /// Ask a daemon whether it serves
    #[command(after_help = "Example:\n  dgx-agent health --agent http://127.0.0.1:50051\n\n\
                            Exit code 0: it serves; 1: it does not.")]
    Health(HealthArgs),
}

#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    /// What batches lie below: a folder, s3://bucket/prefix, gs:// or az:// [env: DGX_AGENT_ROOT]
    #[arg(long, value_name = "URI")]
    pub root: Option<String>,
    /// Where to listen: loopback; port 0 takes a free one [env: DGX_AGENT_LISTEN] [default: 127.0.0.1:50051]
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Write `host:port` here once it listens
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,
    /// Answer Prometheus at http://HOST:PORT/metrics, loopback; without it: not at all [env: DGX_AGENT_METRICS]
    #[arg(long, value_name = "HOST:PORT")]
    pub metrics: Option<String>,
    /// Batches that run at once; they share the model server by their weights
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub jobs: u32,
    /// Where jobs and the journal are kept over restarts [env: DGX_AGENT_STATE_DIR] [default: ./agent-state]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Where the batch lies: a folder, s3://bucket/prefix, gs:// or az:// [env: DGX_AGENT_ROOT]
    #[arg(long, value_name = "URI")]
    pub root: Option<String>,
    #[arg(long, value_name = "ID")]
    pub batch_id: BatchId,
    /// Only the parts whose number is I modulo N
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
    /// Where the journal of finished answers is kept over runs [env: DGX_AGENT_STATE_DIR] [default: no journal]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// How long a store that goes away in the middle of the run is waited for; then the run ends with exit code 4
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub patience: u32,
    /// Print one JSON document on stdout, and errors as JSON on stderr
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub engine: EngineArgs,
}

#[derive(Debug, Clone, Default, Args)]
pub struct GroundArgs {
    /// The labelset; without it, the embedded one
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Args)]
pub struct HealthArgs {
    /// The daemon [env: DGX_AGENT_URL] [default: http://127.0.0.1:50051]
    #[arg(long, value_name = "URL")]
    pub agent: Option<String>,
    /// Print one JSON document on stdout
    #[arg(long)]
    pub json: bool,
}

/// Who makes the suggestions, and how.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Engine")]
pub struct EngineArgs {
    /// Who makes the suggestions [default: what the batch says, else rules]
    #[arg(long, value_enum)]
    pub engine: Option<Engine>,
    /// The Ollama server [env: OLLAMA_HOST] [default: http://127.0.0.1:11434]
    #[arg(long, value_name = "URL")]
    pub ollama_url: Option<String>,
    /// The model on it [env: OLLAMA_MODEL]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// The labelset of batches that carry none [default: the embedded one]
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// The model's context window, prompt and answer
    #[arg(long, value_name = "TOKENS", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1024..=1_048_576))]
    pub num_ctx: u32,
    /// Longest answer; less than half of --num-ctx
    #[arg(long, value_name = "TOKENS", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(64..=65_536))]
    pub num_predict: u32,
    /// Requests under way at the model server: a number up to 256, or auto: found from how long its answers wait
    #[arg(long, value_name = "auto|N", default_value = "auto")]
    pub concurrency: Concurrency,
    /// Most requests a minute [default: as many as the server takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub requests_per_minute: Option<u32>,
    /// Most tokens a minute, of prompts and answers, as estimated [default: as many as the server takes]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub tokens_per_minute: Option<u32>,
    /// Longest page text; a longer page fails as page_too_large
    #[arg(long, value_name = "MIB", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub max_page_mib: u32,
    /// Disk for the model's finished answers, so that none is asked for twice; the oldest go first. They hold words of
    /// pages. 0: keep none
    #[arg(long, value_name = "SIZE", default_value = "4GiB", value_parser = size)]
    pub journal_keep: u64,
    /// How long requests at the model server are waited for after the first SIGTERM or Ctrl-C; the second drops them
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub drain_timeout: u32,
}

/// The least journal that is worth its files.
const LEAST_JOURNAL: u64 = 16 << 20;

/// Bytes, as `4GiB`, `512MiB` or `1000000`.
fn size(text: &str) -> Result<u64, String> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[number.len()..] {
        "" | "B" => 1,
        "MiB" => 1 << 20,
        "MB" => 1_000_000,
        "GiB" => 1 << 30,
        "GB" => 1_000_000_000,
        _ => return Err("a size is a number with MiB, MB, GiB or GB, e.g. 4GiB".to_owned()),
    };
    let bytes = number.parse().ok().and_then(|number: u64| number.checked_mul(unit));
    let bytes = bytes.ok_or_else(|| "a size is a number with MiB, MB, GiB or GB, e.g. 4GiB".to_owned())?;
    match bytes {
        1..LEAST_JOURNAL => Err("less than 16MiB is no use: more, or 0 for none".to_owned()),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["dgx-agent"], args].concat())
    }

    #[test]
    fn every_help_has_an_example_and_the_main_one_the_exit_codes() {
        let mut root = Cli::command().term_width(200);
        root.build();
        assert!(root.render_help().to_string().contains(EXIT_CODES));
        for command in root.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let name = command.get_name().to_owned();
            let help = command.render_help().to_string();
            assert!(help.contains("Example"), "{name}: {help}");
            assert!(help.contains(&format!("dgx-agent {name}")), "{name}: {help}");
        }
    }

    #[test]
    fn what_is_wrong_is_a_usage_error() {
        for args in [
            &["run", "--root", "."][..],
            &["run", "--root", ".", "--batch-id", "Not_A_Batch"],
            &["run", "--batch-id", "../x"],
            &["run", "--batch-id", "b", "--shard", "2/2"],
            &["run", "--batch-id", "b", "--shard", "1"],
            &["run", "--batch-id", "b", "--engine", "magic"],
            &["run", "--batch-id", "b", "--concurrency", "0"],
            &["run", "--batch-id", "b", "--concurrency", "257"],
            &["run", "--batch-id", "b", "--concurrency", "many"],
            &["run", "--batch-id", "b", "--journal-keep", "a lot"],
            &["run", "--batch-id", "b", "--journal-keep", "1MiB"],
            &["run", "--batch-id", "b", "--journal-keep", "99999999999GiB"],
            &["nothing"],
        ] {
            assert_eq!(parse(args).expect_err("refused").exit_code(), 2, "{args:?}");
        }
    }
}
