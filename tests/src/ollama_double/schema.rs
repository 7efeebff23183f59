//! `format`: what the server makes of it, and a smallest answer that obeys it. Pure.

use serde_json::{Map, Value, json};

const TYPES: [&str; 7] = ["object", "array", "string", "integer", "number", "boolean", "null"];

/// Of a schema that the server makes no grammar of.
pub(super) const INVALID: &str = "invalid JSON schema in format";

/// The schema that an answer has to obey; none for no format and for `"json"`. Err: the message of the 500.
pub(super) fn schema(format: Option<&Value>) -> Result<Option<&Value>, String> {
    match format {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(name)) if name.is_empty() || name == "json" => Ok(None),
        Some(schema @ Value::Object(_)) if is_known(schema) => Ok(Some(schema)),
        Some(Value::Object(_)) => Err(INVALID.to_owned()),
        Some(other) => Err(format!(
            "invalid format: {:?}; expected \"json\" or a valid JSON Schema object",
            other.to_string()
        )),
    }
}

fn is_known(schema: &Value) -> bool {
    let well = schema["type"].as_str().is_none_or(|name| TYPES.contains(&name));
    let properties = schema["properties"].as_object().into_iter().flatten().map(|(_, property)| property);
    well && properties.chain(schema.get("items")).all(is_known)
}

/// A smallest value of a schema, as far as the agent and the suites use them.
pub(super) fn smallest(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    let least = |key: &str| schema[key].as_u64().and_then(|least| usize::try_from(least).ok()).unwrap_or(0);
    match schema["type"].as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let pairs = required.map(|name| (name.to_owned(), smallest(&schema["properties"][name])));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        Some("array") => vec![smallest(&schema["items"]); least("minItems")].into(),
        Some("string") => "x".repeat(least("minLength")).into(),
        Some("integer" | "number") => json!(0),
        Some("boolean") => json!(false),
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_apart() {
        for none in [None, Some(json!(null)), Some(json!("")), Some(json!("json"))] {
            assert_eq!(schema(none.as_ref()), Ok(None));
        }
        let broken = json!({"type": "object", "properties": {"a": {"type": "nonsense"}}});
        assert_eq!(schema(Some(&broken)), Err("invalid JSON schema in format".to_owned()));
        assert!(
            schema(Some(&json!("xml"))).is_err_and(|why| why.starts_with("invalid format: \"\\\"xml\\\"\""))
        );
    }

    #[test]
    fn the_smallest_answer_obeys() {
        let list = json!({"type": "array", "minItems": 2, "items": {"enum": ["A", "B"]}});
        let properties = json!({"list": list, "text": {"type": "string", "minLength": 1}, "left": {}});
        let schema = json!({"type": "object", "properties": properties, "required": ["list", "text"]});
        assert_eq!(smallest(&schema), json!({"list": ["A", "A"], "text": "x"}));
    }
}
