//! The stages as a table, for people.

use super::Stage;

const HEADER: [&str; 5] = ["stage", "pages in", "pages out", "seconds", "outcome"];

/// One line a stage: pages in and out, seconds, outcomes.
pub fn stages(stages: &[Stage]) -> String {
    let rows: Vec<[String; 5]> = stages.iter().map(row).collect();
    let width = |column: usize| {
        rows.iter().map(|row| row[column].chars().count()).chain([HEADER[column].len()]).max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2), width(3)];
    let header = HEADER.map(str::to_owned);
    let mut lines = vec![line(&header, widths)];
    lines.extend(rows.iter().map(|row| line(row, widths)));
    lines.join("\n")
}

fn row(stage: &Stage) -> [String; 5] {
    let pages = |pages: Option<u64>| pages.map_or_else(|| "-".to_owned(), |pages| pages.to_string());
    let mut outcomes: Vec<_> = stage.outcomes.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if stage.already_done {
        outcomes.push("(already done)".to_owned());
    }
    let seconds = format!("{:.2}", stage.seconds);
    [stage.stage.clone(), pages(stage.pages_in), pages(stage.pages_out), seconds, outcomes.join(", ")]
}

fn line([stage, pages_in, pages_out, seconds, outcomes]: &[String; 5], [a, b, c, d]: [usize; 4]) -> String {
    format!("{stage:<a$}  {pages_in:>b$}  {pages_out:>c$}  {seconds:>d$}  {outcomes}").trim_end().to_owned()
}

/// What the stages made, each path once, then what they have to say.
pub(super) fn paths(stages: &[Stage]) -> String {
    let mut lines: Vec<String> = vec![String::new()];
    for stage in stages {
        for path in &stage.artifacts {
            let known = lines.iter().any(|line| line.ends_with(&format!("  {path}")));
            if !known {
                lines.push(format!("{:<18}  {path}", stage.stage));
            }
        }
    }
    for stage in stages {
        lines.extend(stage.notes.iter().map(|note| format!("note: {}: {note}", stage.stage)));
    }
    lines.join("\n")
}
