use clap::{CommandFactory, Parser};

use super::*;

fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from([&["control"], args].concat())
}

fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let path = format!("{path} {}", sub.get_name());
        if sub.has_subcommands() {
            leaves(sub, &path, found);
        } else {
            found.push((path, sub.clone()));
        }
    }
}

#[test]
fn the_arguments_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn the_help_of_every_command_has_an_example() {
    let mut root = Cli::command().term_width(110);
    root.build();
    let mut found = Vec::new();
    leaves(&root, "control", &mut found);
    assert_eq!(found.len(), 27, "{:?}", found.iter().map(|(path, _)| path).collect::<Vec<_>>());
    let less_global = |help: &str| {
        help.split("\n\n")
            .filter(|part| !part.starts_with("Everywhere:"))
            .map(|part| format!("{part}\n\n"))
            .collect::<String>()
    };
    let mut helps = format!("$ control --help\n{}\n", root.render_help());
    for (path, mut command) in found {
        let help = command.render_help().to_string();
        let example = [format!("Example:\n  {path}"), format!("Examples:\n  {path}")];
        assert!(example.iter().any(|example| help.contains(example)), "{help}");
        helps.push_str(&format!("$ {path} --help\n{}", less_global(&help)));
    }
    insta::assert_snapshot!("help", helps);
}

#[test]
fn what_is_wrong_is_a_usage_error() {
    for args in [
        &["batch", "create", "Not_A_Batch", "--all"][..],
        &["batch", "create", "pilot-1"],
        &["batch", "create", "pilot-1", "--all", "--doc-id", "x"],
        &["merge", "../x"],
        &["signoff", "pilot-1", "--investigated", "8=why"],
        &["signoff", "pilot-1", "--investigated", "3="],
        &["argilla", "autoload", "--once", "--interval", "5"],
        &["eval"],
        &["eval", "pilot-1", "--truth", "t.parquet", "--annotator", "ada"],
        &["eval", "pilot-1", "--truth", "t.parquet", "--export-run", "1"],
        &["nothing"],
    ] {
        assert_eq!(parse(args).expect_err("refused").exit_code(), 2, "{args:?}");
    }
}

#[test]
fn flags_of_every_command_may_stand_after_it() {
    let cli = parse(&["pilot", "run", "p", "--doc-id", "a", "--doc-id", "b", "--json", "--root", "/r"])
        .expect("parsed");
    assert!(cli.global.json);
    assert_eq!(cli.global.root.as_deref(), Some("/r"));
    let Command::Pilot(PilotCommand::Run(args)) = cli.command else { unreachable!() };
    assert_eq!(args.documents.doc_ids, ["a", "b"]);
}

#[test]
fn a_finding_is_accepted_with_its_reason() {
    assert_eq!("3= typed by hand ".parse(), Ok(Investigated { check: 3, why: "typed by hand".into() }));
}
