//! Values as Argilla's schema (pydantic) and its messages (Python) read them. Seen on the real server. Pure.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value, json};

use super::{errors::ApiError, input::check_spans, state::Span};

/// `str(value)`
pub fn python_str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => python_repr(other),
    }
}

/// `repr(value)`
pub fn python_repr(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => {
            let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
            let text = text.replace('\\', "\\\\").replace('\n', "\\n");
            format!("{quote}{}{quote}", if quote == '\'' { text.replace('\'', "\\'") } else { text })
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(python_repr).collect::<Vec<_>>().join(", "))
        }
        Value::Object(object) => {
            let pairs = object
                .iter()
                .map(|(key, value)| format!("{}: {}", python_repr(&json!(key)), python_repr(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Text, or a number taken for one.
pub fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    match Option::<Value>::deserialize(deserializer)? {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(_) => Err(D::Error::custom("Input should be a valid string")),
    }
}

/// What a field of any kind may hold: text, a chat (a list of messages) or an object of one's own.
pub fn check_fields(fields: &Map<String, Value>, loc: &[Value]) -> Result<(), ApiError> {
    let is_message = |message: &Value| message["role"].is_string() && message["content"].is_string();
    for (name, value) in fields {
        let well = match value {
            Value::Null | Value::String(_) | Value::Object(_) => true,
            Value::Array(messages) => messages.iter().all(is_message),
            Value::Bool(_) | Value::Number(_) => false,
        };
        if !well {
            let at = loc.iter().cloned().chain([json!("fields"), json!(name)]);
            return Err(ApiError::body(at, "Input should be a valid string, list or dictionary"));
        }
    }
    Ok(())
}

/// What a response says to one question, of whatever type the question is.
pub enum Answered {
    Spans(Vec<Span>),
    /// A list of texts, as a question with several labels has it.
    Texts,
    /// One value: Python's name of its type.
    Single(&'static str),
}

/// `{"value": …}`, before anybody looks at the question.
pub fn answered(value: &Value) -> Result<Answered, &'static str> {
    let is_text = |item: &Value| item.is_string() || item.is_number();
    match value.get("value").ok_or("Field required")? {
        Value::String(_) => Ok(Answered::Single("str")),
        Value::Number(number) if number.is_i64() => Ok(Answered::Single("int")),
        Value::Array(items) if !items.is_empty() && items.iter().all(is_text) => Ok(Answered::Texts),
        list @ Value::Array(_) => {
            let spans: Vec<Span> = Vec::deserialize(list).map_err(|_| "Field required")?;
            check_spans(&spans)?;
            Ok(Answered::Spans(spans))
        }
        _ => Err("Input should be a valid list"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_python_writes_them() {
        let value = json!({"a": ["it's", "\"q\"", 1, 1.5, true, null]});
        assert_eq!(python_str(&value), r#"{'a': ["it's", '"q"', 1, 1.5, True, None]}"#);
        assert_eq!(python_str(&json!("1")), "1");
    }

    #[test]
    fn answers_of_the_wrong_kind_are_told_apart() {
        let of = |value: Value| answered(&json!({"value": value}));
        assert!(matches!(of(json!([])), Ok(Answered::Spans(spans)) if spans.is_empty()));
        assert!(matches!(of(json!(["a"])), Ok(Answered::Texts)));
        assert!(matches!(of(json!("a")), Ok(Answered::Single("str"))));
        assert!(of(json!([{"label": "A", "start": 1}])).is_err());
        assert!(of(json!([{"label": "A", "start": 1, "end": 1}])).is_err());
        assert!(of(json!(null)).is_err() && answered(&json!({})).is_err());
    }
}
