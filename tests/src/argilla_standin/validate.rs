//! The rules that need the dataset or the record: pure functions that answer with Argilla's own sentence.
//! All offsets count code points.

use serde_json::{Map, Value, json};

use super::{
    errors::ApiError,
    input::{RecordUpsert, ResponseCreate, SuggestionCreate},
    state::{Dataset, MetadataSettings, Question, Record, ResponseStatus, Span},
    values::{Answered, answered, python_repr, python_str},
};

type Checked = Result<(), String>;
type Fields = Map<String, Value>;

/// An item of a bulk upsert. Trap 2 of the contract is here: for a record that exists, new spans are checked
/// against the *stored* fields, even when the item brings others.
pub fn record(item: &RecordUpsert, dataset: &Dataset, stored: Option<&Record>) -> Checked {
    let none = Fields::new();
    let sent = item.fields.as_ref().map(|fields| fields.as_ref().unwrap_or(&none));
    match (stored, sent) {
        (None, sent) => fields(sent.unwrap_or(&none), dataset)?,
        (Some(_), Some(sent)) => fields(sent, dataset)?,
        (Some(_), None) => {}
    }
    metadata(item.metadata.as_ref().and_then(Option::as_ref), dataset)?;
    let annotated = stored.map_or(sent.unwrap_or(&none), |record| &record.fields);
    suggestions(item.suggestions.as_deref().unwrap_or_default(), dataset, annotated)
}

pub fn fields(fields: &Fields, dataset: &Dataset) -> Checked {
    if fields.is_empty() {
        return Err("fields cannot be empty".to_owned());
    }
    for field in &dataset.fields {
        match fields.get(&field.name) {
            None | Some(Value::Null) if field.required => {
                return Err(format!("missing required value for field: '{}'", field.name));
            }
            None | Some(Value::Null | Value::String(_)) => {}
            Some(_) => return Err(format!("text field '{}' value must be a string", field.name)),
        }
    }
    match fields.keys().find(|name| !dataset.fields.iter().any(|f| f.name == **name)) {
        Some(name) => Err(format!("found fields values for non configured fields: ['{name}']")),
        None => Ok(()),
    }
}

pub fn metadata(metadata: Option<&Map<String, Value>>, dataset: &Dataset) -> Checked {
    for (name, value) in metadata.into_iter().flatten() {
        match dataset.metadata_properties.iter().find(|p| p.name == *name) {
            Some(property) if !value.is_null() => {
                metadata_value(value, &property.settings).map_err(|why| {
                    format!(
                        "metadata is not valid: '{name}' metadata property validation failed because {why}"
                    )
                })?
            }
            None if !dataset.allow_extra_metadata => {
                return Err(format!(
                    "metadata is not valid: '{name}' metadata property does not exists for dataset '{}' and \
                     extra metadata is not allowed for this dataset",
                    dataset.id
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn metadata_value(value: &Value, settings: &MetadataSettings) -> Checked {
    match settings {
        MetadataSettings::Terms { values: None } => Ok(()),
        MetadataSettings::Terms { values: Some(allowed) } => {
            let given = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
            given
                .iter()
                .find(|v| !allowed.contains(v))
                .map_or(Ok(()), |v| Err(format!("'{}' is not an allowed term.", python_str(v))))
        }
        MetadataSettings::Integer { min, max } => {
            // In Python a truth value is an integer.
            let number = value.as_bool().map(i64::from).or(value.as_i64());
            let number = number.ok_or_else(|| format!("'{}' is not an integer.", python_str(value)))?;
            in_range(number, *min, *max)
        }
        MetadataSettings::Float { min, max } => {
            let float = value.as_f64().filter(|_| value.is_f64());
            let float = float.ok_or_else(|| format!("'{}' is not a float.", python_str(value)))?;
            in_range(float, *min, *max)
        }
    }
}

fn in_range<T: PartialOrd + std::fmt::Display + Copy>(value: T, min: Option<T>, max: Option<T>) -> Checked {
    match (min, max) {
        (Some(min), _) if value < min => Err(format!("'{value}' is less than the minimum value of '{min}'.")),
        (_, Some(max)) if value > max => {
            Err(format!("'{value}' is greater than the maximum value of '{max}'."))
        }
        _ => Ok(()),
    }
}

pub fn suggestions(suggestions: &[SuggestionCreate], dataset: &Dataset, fields: &Fields) -> Checked {
    let check = || {
        let mut questions: Vec<_> = suggestions.iter().map(|s| &s.question_id).collect();
        questions.sort();
        questions.dedup();
        if questions.len() != suggestions.len() {
            return Err("found duplicate suggestions question IDs".to_owned());
        }
        suggestions.iter().try_for_each(|one| suggestion(one, dataset, fields))
    };
    check().map_err(|why| format!("record does not have valid suggestions: {why}"))
}

pub fn suggestion(suggestion: &SuggestionCreate, dataset: &Dataset, fields: &Fields) -> Checked {
    let question = dataset.questions.iter().find(|q| q.id == suggestion.question_id);
    let question =
        question.ok_or_else(|| format!("question id={} does not exists", suggestion.question_id))?;
    spans(&suggestion.value, question, fields)?;
    score(suggestion)
}

fn score(suggestion: &SuggestionCreate) -> Checked {
    match &suggestion.score {
        None => Ok(()),
        Some(Value::Array(scores)) if scores.len() == suggestion.value.len() => Ok(()),
        Some(Value::Array(_)) => {
            Err("number of items on value and score attributes doesn't match".to_owned())
        }
        Some(_) => {
            Err("a single score value is not allowed for a suggestion with a multiple items value".to_owned())
        }
    }
}

/// Spans against the text they are on.
pub fn spans(spans: &[Span], question: &Question, fields: &Fields) -> Checked {
    let Some(Value::String(text)) = fields.get(&question.field) else {
        return Err(format!("span question requires record to have field `{}`", question.field));
    };
    let length = i64::try_from(text.chars().count()).unwrap_or(i64::MAX);
    let field = &question.field;
    for span in spans {
        if span.start > length - 1 {
            return Err(format!(
                "span question response value `start` must have a value lower than record field `{field}` \
                 length that is `{length}`"
            ));
        }
        if span.end > length {
            return Err(format!(
                "span question response value `end` must have a value lower or equal than record field \
                 `{field}` length that is `{length}`"
            ));
        }
    }
    for span in spans {
        if !question.options.iter().any(|o| o.value == span.label) {
            let labels = python_repr(&question.options.iter().map(|o| json!(o.value)).collect());
            return Err(format!(
                "undefined label '{}' for span question.\nValid labels are: {labels}",
                span.label
            ));
        }
    }
    if question.allow_overlapping { Ok(()) } else { overlaps(spans) }
}

/// A duplicate overlaps too.
fn overlaps(spans: &[Span]) -> Checked {
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by_key(|&i| (spans[i].start, spans[i].end));
    match order.windows(2).find(|pair| spans[pair[1]].start < spans[pair[0]].end) {
        Some(pair) => {
            let (i, j) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
            Err(format!("overlapping values found between spans at index idx={i} and idx={j}"))
        }
        None => Ok(()),
    }
}

/// A response to a record of this dataset.
pub fn response(response: &ResponseCreate, dataset: &Dataset, fields: &Fields) -> Result<(), ApiError> {
    let refused = |why: String| Err(ApiError::Unprocessable(why));
    let none = Map::new();
    let values = response.values.as_ref().unwrap_or(&none);
    if response.status == ResponseStatus::Submitted {
        if values.is_empty() {
            return refused("missing response values for submitted response".to_owned());
        }
        if let Some(question) = dataset.questions.iter().find(|q| q.required && !values.contains_key(&q.name))
        {
            return refused(format!(
                "missing response value for required question with name='{}'",
                question.name
            ));
        }
    }
    for (name, value) in values {
        let Some(question) = dataset.questions.iter().find(|q| q.name == *name) else {
            return refused(format!("found response value for non configured question with name='{name}'"));
        };
        match answered(value) {
            Ok(Answered::Spans(value)) => spans(&value, question, fields).or_else(refused)?,
            Ok(Answered::Single(kind)) => {
                return refused(format!("span question expects a list of values, found <class '{kind}'>"));
            }
            // Argilla forgot this one.
            Ok(Answered::Texts) => {
                return Err(ApiError::Internal("'str' object has no attribute 'start'".to_owned()));
            }
            Err(msg) => return Err(ApiError::body([json!("values"), json!(name)], msg)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::argilla_standin::state::LabelOption;

    fn question() -> Question {
        Question {
            id: "q".into(),
            name: "entities".into(),
            title: "Entities".into(),
            description: None,
            required: true,
            field: "text".into(),
            options: vec![LabelOption { value: "IMO".into(), text: "IMO".into(), description: None }],
            visible_options: None,
            allow_overlapping: false,
            inserted_at: String::new(),
        }
    }

    fn check(text: &str, on: &[(&str, i64, i64)]) -> Checked {
        let fields = json!({"text": text});
        let on: Vec<_> =
            on.iter().map(|&(label, start, end)| Span { label: label.into(), start, end }).collect();
        spans(&on, &question(), fields.as_object().unwrap())
    }

    #[test]
    fn bounds_count_code_points() {
        // One astral character: 4 bytes, 2 UTF-16 units, 1 code point.
        check("😀IMO", &[("IMO", 1, 4)]).unwrap();
        assert!(check("😀IMO", &[("IMO", 1, 5)]).unwrap_err().contains("length that is `4`"));
        assert!(check("😀IMO", &[("IMO", 4, 5)]).unwrap_err().contains("`start` must have a value lower"));
    }

    #[test]
    fn touching_spans_are_fine_but_overlaps_and_duplicates_are_not() {
        check("abcdef", &[("IMO", 3, 6), ("IMO", 0, 3)]).unwrap();
        check("abcdef", &[]).unwrap();
        let overlapping = "overlapping values found between spans at index idx=0 and idx=1";
        assert_eq!(check("abcdef", &[("IMO", 0, 3), ("IMO", 2, 4)]).unwrap_err(), overlapping);
        assert_eq!(check("abcdef", &[("IMO", 0, 3), ("IMO", 0, 3)]).unwrap_err(), overlapping);
    }

    #[test]
    fn labels_are_option_values() {
        assert!(check("abc", &[("VESSEL", 0, 1)]).unwrap_err().starts_with("undefined label 'VESSEL'"));
    }

    #[test]
    fn integers_and_floats_are_told_apart() {
        let integer = MetadataSettings::Integer { min: None, max: Some(9) };
        metadata_value(&json!(3), &integer).unwrap();
        assert!(metadata_value(&json!(3.0), &integer).is_err());
        assert!(metadata_value(&json!(10), &integer).is_err());
        let float = MetadataSettings::Float { min: None, max: None };
        metadata_value(&json!(1.0), &float).unwrap();
        assert!(metadata_value(&json!(1), &float).is_err());
    }
}
