//! The table of a service: a line a call, a column a server, and below it what went wrong.

use std::fmt::Write as _;

use super::Seen;

/// What one server did, in the order of the cases.
#[derive(Debug)]
pub struct Column {
    pub name: String,
    pub rows: Vec<(&'static str, Result<Seen, String>)>,
}

/// The columns side by side.
#[derive(Debug)]
pub struct Comparison {
    /// For people: a table, and the failures and differences in full.
    pub text: String,
    /// Calls that failed somewhere or that two servers answered differently.
    pub wrong: Vec<String>,
}

/// Columns of the same cases.
pub fn compare(service: &str, columns: &[Column]) -> Comparison {
    let Some(first) = columns.first() else {
        return Comparison { text: String::new(), wrong: vec!["nothing was run".to_owned()] };
    };
    let calls = || first.rows.iter().map(|(call, _)| *call);
    let width = calls().map(|call| call.chars().count()).max().unwrap_or_default();
    let (mut text, mut below, mut wrong) = (format!("\n{service:width$}"), String::new(), Vec::new());
    for column in columns {
        let _ = write!(text, "  {:>8}", column.name);
    }
    text.push('\n');
    for (n, call) in calls().enumerate() {
        let _ = write!(text, "{call:width$}");
        let outcomes: Vec<_> = columns.iter().map(|column| (&column.name, &column.rows[n].1)).collect();
        for (_, outcome) in &outcomes {
            let _ = write!(text, "  {:>8}", verdict(outcome));
        }
        let told = differences(&outcomes);
        if !told.is_empty() {
            text.push_str("  <- WRONG, see below");
            let _ = writeln!(below, "{call}:\n{told}");
            wrong.push(call.to_owned());
        }
        text.push('\n');
    }
    let count = |verdict: &str| {
        let outcomes =
            columns.iter().flat_map(|column| &column.rows).map(|(_, outcome)| self::verdict(outcome));
        outcomes.filter(|one| *one == verdict).count()
    };
    let (pass, absent) = (count("pass"), count("n/a"));
    let _ = write!(
        text,
        "{} calls on {} sides: {pass} pass, {absent} n/a, {} wrong\n{below}",
        first.rows.len(),
        columns.len(),
        wrong.len()
    );
    Comparison { text, wrong }
}

fn verdict(outcome: &Result<Seen, String>) -> &'static str {
    match outcome {
        Ok(seen) if seen.absent => "n/a",
        Ok(_) => "pass",
        Err(_) => "FAIL",
    }
}

/// Failures, then the first line that two servers do not share.
fn differences(outcomes: &[(&String, &Result<Seen, String>)]) -> String {
    let mut told = String::new();
    for (name, outcome) in outcomes {
        if let Err(why) = outcome {
            let _ = writeln!(told, "  {name}: {why}");
        }
    }
    let mut present = outcomes.iter().filter_map(|(name, outcome)| {
        outcome.as_ref().ok().filter(|seen| !seen.absent).map(|seen| (name, seen))
    });
    let Some((one, first)) = present.next() else { return told };
    for (other, seen) in present.filter(|(_, seen)| *seen != first) {
        let lines = first.lines.len().max(seen.lines.len());
        let line = |seen: &Seen, n: usize| seen.lines.get(n).map_or("nothing", |line| line).to_owned();
        for n in (0..lines).filter(|n| line(first, *n) != line(seen, *n)) {
            let _ = writeln!(told, "  {one} saw:  {}\n  {other} saw:  {}", line(first, n), line(seen, n));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, outcomes: [Result<&str, &str>; 2]) -> Column {
        let rows = outcomes.map(|outcome| match outcome {
            Ok("") => Ok(Seen::absent()),
            Ok(line) => Ok(Seen { lines: vec![line.to_owned()], absent: false }),
            Err(why) => Err(why.to_owned()),
        });
        Column { name: name.into(), rows: ["put", "get"].into_iter().zip(rows).collect() }
    }

    #[test]
    fn columns_that_agree_are_right() {
        let columns = [column("double", [Ok("201"), Ok("")]), column("real", [Ok("201"), Ok("200")])];
        let comparison = compare("Store", &columns);
        assert_eq!(comparison.wrong, Vec::<String>::new());
        assert_eq!(
            comparison.text,
            "\nStore    double      real\nput      pass      pass\nget       n/a      pass\n2 calls on 2 sides: 3 pass, 1 n/a, 0 wrong\n"
        );
    }

    #[test]
    fn failures_and_differences_are_told_by_name() {
        let columns = [column("double", [Ok("201"), Err("404")]), column("real", [Ok("200"), Ok("x")])];
        let comparison = compare("S", &columns);
        assert_eq!(comparison.wrong, ["put", "get"]);
        assert!(comparison.text.contains("double saw:  201\n  real saw:  200"), "{}", comparison.text);
        assert!(comparison.text.contains("FAIL      pass  <- WRONG, see below"), "{}", comparison.text);
    }
}
