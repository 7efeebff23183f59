//! Which documents a command was asked for.

use std::{collections::HashSet, fs};

use proto::ids::DocId;

use crate::{cli::DocumentArgs, failure::Failure};

/// The ids of flags and file, in that order, each once. A line of the file is an id as it stands, blanks
/// included; empty lines are passed over.
pub fn asked(args: &DocumentArgs) -> Result<Vec<DocId>, Failure> {
    let mut ids = args.doc_ids.clone();
    if let Some(path) = &args.doc_ids_file {
        let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let before = ids.len();
        ids.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned));
        if ids.len() == before {
            return Err(Failure::usage(format!("{} holds no document id: write one a line", path.display())));
        }
    }
    let mut seen = HashSet::new();
    ids.into_iter()
        .filter(|id| seen.insert(id.clone()))
        .map(|id| DocId::new(id).map_err(|_| Failure::usage("--doc-id is empty: give a document's id")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_come_from_flags_and_file_each_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ids.txt");
        fs::write(&file, "\u{feff}b\r\n\n a/../b 'c' \nb\n").expect("written");
        let args = DocumentArgs { doc_ids: vec!["a".into(), "b".into()], doc_ids_file: Some(file.clone()) };
        let ids = asked(&args).expect("ids");
        assert_eq!(ids.iter().map(DocId::as_str).collect::<Vec<_>>(), ["a", "b", " a/../b 'c' "]);

        fs::write(&file, "\n").expect("written");
        assert_eq!(asked(&args).expect_err("no ids").exit_code(), 2);
        fs::remove_file(&file).expect("removed");
        assert_eq!(asked(&args).expect_err("no file").exit_code(), 3);
        let empty = DocumentArgs { doc_ids: vec![String::new()], doc_ids_file: None };
        assert_eq!(asked(&empty).expect_err("empty").exit_code(), 2);
    }
}
