//! Pages for measurements and campaigns: those of the committed corpus again and again, each time another page.

use anyhow::Result;
use proto::rows::BatchPage;

use crate::{agent_jobs::example_pages, batch_dir::page};

/// Longest line of a page, in bytes: each begins with the sheet's name, so that no piece of a page is one of another.
const LINE: usize = 100;

/// `extra`: a word that stands beside each name.
pub fn sheet(number: usize, text: &str, extra: &str) -> BatchPage {
    let name = format!("Sheet {number} {extra}");
    let mut named = String::new();
    for line in text.lines().flat_map(folded) {
        named.push_str(name.trim_end());
        named.push_str("| ");
        named.push_str(&line);
        named.push('\n');
    }
    page(&format!("doc-{:05}", number / 10), i32::try_from(number % 10).unwrap_or(0) + 1, &named)
}

/// A line in lines that are not too long.
fn folded(line: &str) -> Vec<String> {
    let mut lines = Vec::<String>::new();
    for word in line.split_whitespace() {
        match lines.last_mut().filter(|line| line.len() + word.len() < LINE) {
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// So many pages, all different, none blank.
pub async fn sheets(count: usize) -> Result<Vec<BatchPage>> {
    let texts: Vec<String> = example_pages().await?.into_iter().filter_map(|page| page.text).collect();
    let texts = texts.iter().filter(|text| !text.trim().is_empty()).cycle();
    Ok(texts.take(count).enumerate().map(|(number, text)| sheet(number, text, "")).collect())
}

/// A short page, quickly asked about and grounded; no two are alike.
pub fn slip(number: usize) -> BatchPage {
    let (vessel, hull) = (number % 9973, 1_000_000 + number % 8_999_999);
    let text = format!(
        "Register extract {number}\nVessel name: OCEAN STAR {vessel}\nIMO 9074729\nCall sign: HP{}\nFlag: Panama\n\
         Hull {hull}, built 1998, length 45.2 m\nOwner: Blue Horizon {vessel} S.A.\nDate: 2024-05-{:02}\n",
        1000 + number % 9000,
        1 + number % 28
    );
    page(&format!("doc-{:06}", number / 10), i32::try_from(number % 10).unwrap_or(0) + 1, &text)
}
