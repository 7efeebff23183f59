//! SHA-256 as every table and document writes it: 64 lower-case hex digits.

use sha2::{Digest, Sha256};

/// The lower-case hex SHA-256 of `bytes`; of the UTF-8 bytes for text.
pub fn sha256_hex(bytes: impl AsRef<[u8]>) -> String {
    lower_hex(&Sha256::digest(bytes).into())
}

/// Into a buffer: by way of an iterator of characters it takes longer than the hash.
fn lower_hex(digest: &[u8; 32]) -> String {
    let mut digits = [0; 64];
    hex::encode_to_slice(digest, &mut digits).expect("two digits a byte");
    str::from_utf8(&digits).expect("digits are ASCII").to_owned()
}

/// The hash of several fields that cannot run into each other: each is preceded by its length.
pub fn sha256_of_fields<'a>(fields: impl IntoIterator<Item = &'a str>) -> String {
    let mut hasher = Sha256::new();
    for field in fields {
        hasher.update((field.len() as u64).to_be_bytes());
        hasher.update(field);
    }
    lower_hex(&hasher.finalize().into())
}

/// The hash of a JSON value in canonical form: keys sorted at every level, no blanks.
pub fn sha256_of_json(value: &serde_json::Value) -> String {
    sha256_hex(canonical(value).to_string())
}

fn canonical(value: &serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), canonical(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        scalar => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_lower_hex() {
        assert_eq!(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        assert_ne!(sha256_of_fields(["ab", "c"]), sha256_of_fields(["a", "bc"]));
    }

    #[test]
    fn key_order_does_not_change_the_hash_of_json() {
        let left = serde_json::json!({"a": {"x": 1, "y": [1, 2]}, "b": null});
        let right = serde_json::json!({"b": null, "a": {"y": [1, 2], "x": 1}});
        assert_eq!(sha256_of_json(&left), sha256_of_json(&right));
    }
}
