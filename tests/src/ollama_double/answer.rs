//! What the double says: the mentions that the rules find, as the schema asks for them. Pure.

use dgx_agent::rules::Rules;
use proto::labelset::Labelset;
use serde_json::json;

/// Words before a mention, in characters.
const CONTEXT: usize = 24;

pub(crate) struct Answerer {
    rules: Rules,
}

impl Default for Answerer {
    fn default() -> Self {
        Self { rules: Rules::new(&Labelset::embedded()).expect("it compiles") }
    }
}

impl Answerer {
    /// `page`: a piece of one. `most`: mentions that the schema allows.
    pub fn answer(&self, page: &str, most: usize) -> String {
        let chars: Vec<char> = page.chars().collect();
        let mentions = self.rules.annotate(page).into_iter().take(most).map(|span| {
            let before: String = chars[span.start.saturating_sub(CONTEXT)..span.start].iter().collect();
            json!({"label": span.label, "text": span.text, "before": before})
        });
        json!({"mentions": mentions.collect::<Vec<_>>()}).to_string()
    }
}

/// The page within the user's message: between the fences of its second and its last line.
pub(crate) fn page(message: &str) -> &str {
    let fenced = message.strip_prefix("Page:\n").unwrap_or(message);
    let Some((fence, rest)) = fenced.split_once('\n') else { return fenced };
    rest.strip_suffix(fence).and_then(|page| page.strip_suffix('\n')).unwrap_or(rest)
}

/// About as many as a model would count.
pub(crate) fn tokens(text: &str) -> usize {
    text.len().div_ceil(4)
}

/// The first half of an answer, or as much of it as `num_predict` tokens are.
pub(crate) fn cut(content: &str, num_predict: usize) -> String {
    let end = (content.len() / 2).min(num_predict.saturating_mul(4));
    content[..content.floor_char_boundary(end)].to_owned()
}

/// As a model answers that heeds no schema.
pub(crate) fn untidy(content: &str) -> String {
    format!("```json\n{}\n```", content.replace("}]}", "},]}"))
}

#[cfg(test)]
mod tests {
    use dgx_agent::{parse::parse_answer, prompt::Prompt};

    use super::*;

    #[test]
    fn it_reads_the_agents_prompt_and_answers_as_it_is_asked() {
        let text = "Flag State: France\n~~~\nIMO No.: 4522460";
        assert_eq!(page(&Prompt::new(&Labelset::embedded()).user(text)), text);
        let mentions = parse_answer(&Answerer::default().answer(text, 100)).expect("an answer");
        let found: Vec<_> =
            mentions.iter().map(|mention| (mention.label.as_str(), mention.text.as_str())).collect();
        assert_eq!(found, [("FLAG", "France"), ("IMO", "4522460")]);
    }
}
