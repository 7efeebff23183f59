//! The pilot log: what was signed, as people read it. The same facts lie beside it as JSON, and as `_signoff.json`
//! in the batch's folder.

use std::fmt::Write as _;

use proto::docs::{CheckStatus, Signoff};

/// The log as Markdown.
pub fn markdown(signed: &Signoff) -> String {
    let mut text = format!("# Pilot log: batch {}\n\n", signed.batch_id);
    let _ = writeln!(
        text,
        "Signed by **{}** on {}.\n",
        escaped(&signed.signed_by),
        signed.signed_at.format("%Y-%m-%d %H:%M:%S UTC")
    );
    what(&mut text, signed);
    counts(&mut text, signed);
    checks(&mut text, signed);
    documents(&mut text, signed);
    text
}

fn what(text: &mut String, signed: &Signoff) {
    text.push_str("## What was signed\n\n| | |\n|---|---|\n");
    let of = &signed.provenance;
    let labelset = format!("{} {}", signed.labelset_name, signed.labelset_version);
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(text, "| {name} | {} |", escaped(value));
    };
    row("labelset", &labelset);
    row("labelset SHA-256", &of.labelset_sha256);
    row("engine", &of.engine);
    row("model", &of.model);
    row("model digest", &of.model_digest);
    row("prompt SHA-256", &of.prompt_sha256);
    for (name, value) in &of.options {
        row(&format!("option {name}"), &value.to_string());
    }
    for (tool, version) in &signed.tool_versions {
        row(tool, version);
    }
}

fn counts(text: &mut String, signed: &Signoff) {
    text.push_str("\n## Counts\n\n| stage | | |\n|---|---|--:|\n");
    for (stage, counts) in &signed.counts {
        for (name, count) in counts {
            let _ = writeln!(text, "| {} | {} | {count} |", after_number(stage), escaped(name));
        }
    }
}

/// Stages are numbered (`1 ocr`), so that a map keeps their order.
fn after_number(stage: &str) -> String {
    escaped(stage.split_once(' ').map_or(stage, |(_, name)| name))
}

fn checks(text: &mut String, signed: &Signoff) {
    text.push_str(
        "\n## Integrity checks\n\n| | check | status | expected | found |\n|--:|---|---|---|---|\n",
    );
    for check in &signed.checks {
        let status = match check.status {
            CheckStatus::Pass => "PASS",
            CheckStatus::Fail => "FAIL",
            CheckStatus::NotRun => "NOT RUN",
        };
        let _ = writeln!(
            text,
            "| {} | {} | {status} | {} | {} |",
            check.number,
            escaped(&check.name),
            escaped(&check.expected),
            escaped(&check.found)
        );
    }
    for check in &signed.checks {
        for offender in &check.offenders {
            let _ = writeln!(text, "\n- check {}: {}", check.number, escaped(offender));
        }
    }
    for (check, why) in &signed.investigated {
        let _ = writeln!(text, "\nCheck {check} was investigated and accepted: {}", escaped(why));
    }
}

fn documents(text: &mut String, signed: &Signoff) {
    let _ = writeln!(text, "\n## Documents ({})\n", signed.doc_ids.len());
    for id in &signed.doc_ids {
        let _ = writeln!(text, "- {}", escaped(id));
    }
}

/// Text that Markdown shows as it is, on one line.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '|' | '*' | '_' | '`' | '[' | ']' | '#' | '~' => shown.extend(['\\', character]),
            '<' => shown.push_str("&lt;"),
            '&' => shown.push_str("&amp;"),
            control if control.is_control() => shown.push('\u{fffd}'),
            other => shown.push(other),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use chrono::DateTime;
    use proto::docs::{CheckResult, Provenance, VERSION};

    use super::*;

    fn signoff() -> Signoff {
        let count = |name: &str, count| BTreeMap::from([(name.to_owned(), count)]);
        Signoff {
            version: VERSION,
            batch_id: "pilot-1".parse().expect("an id"),
            signed_at: DateTime::from_timestamp(1_700_000_000, 0).expect("a time"),
            signed_by: "Ada".into(),
            labelset_name: "vessels".into(),
            labelset_version: "1".into(),
            provenance: Provenance {
                engine: "rules".into(),
                model: "rules".into(),
                model_digest: "d".into(),
                prompt_sha256: "p".into(),
                labelset_sha256: "l".into(),
                options: BTreeMap::new(),
                agent_version: "0.1.0".into(),
            },
            doc_ids: vec!["a|b\n# c".into(), "00123".into()],
            counts: [("1 ocr".to_owned(), count("pages", 3)), ("2 batch".to_owned(), count("pages", 3))]
                .into(),
            checks: vec![CheckResult {
                number: 3,
                name: "text hash mismatches".into(),
                status: CheckStatus::Fail,
                expected: "0".into(),
                found: "1".into(),
                offenders: vec!["a|b:7 (run 1)".into()],
            }],
            investigated: [(3, "typed by hand".to_owned())].into(),
            tool_versions: [("control".to_owned(), "0.1.0".to_owned())].into(),
        }
    }

    #[test]
    fn a_log_reads_well() {
        insta::assert_snapshot!(markdown(&signoff()));
    }

    #[test]
    fn what_people_typed_stays_text() {
        assert_eq!(escaped("a|b <i>&\r\n*x*"), "a\\|b &lt;i>&amp;\u{fffd}\u{fffd}\\*x\\*");
    }
}
