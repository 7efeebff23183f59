//! The rules as an engine.

use std::sync::Arc;

use proto::labelset::{Labelset, LabelsetError};

use super::{INTERNAL_ERROR, PageResult, PageSpan, Source, on_rayon};
use crate::rules::Rules;

#[derive(Debug)]
pub(super) struct RulesEngine {
    rules: Arc<Rules>,
}

impl RulesEngine {
    pub fn new(labelset: &Labelset) -> Result<Self, LabelsetError> {
        Ok(Self { rules: Arc::new(Rules::new(labelset)?) })
    }

    pub async fn annotate(&self, text: Arc<str>) -> PageResult {
        let rules = self.rules.clone();
        match on_rayon(move || rules.annotate(&text)).await {
            Ok(spans) => PageResult {
                spans: spans
                    .into_iter()
                    .map(|span| PageSpan { span, source: Source::Rules, confidence: None })
                    .collect(),
                chunks: 1,
                ..PageResult::default()
            },
            Err(_) => PageResult::failed(INTERNAL_ERROR),
        }
    }
}
