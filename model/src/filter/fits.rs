//! Whether a filter can be asked of a view at all.

use super::ast::Expr;
use super::error::FilterError;

impl Expr {
    /// Refuses keys that rows of `view` cannot have, instead of answering with nothing.
    ///
    /// # Errors
    /// A [`FilterError`] that points at the first such key in `filter`, which this was parsed from.
    pub fn check_for(&self, view: crate::View, filter: &str) -> Result<(), FilterError> {
        let Some(term) = self.terms().into_iter().find(|t| !t.key.fits(view)) else {
            return Ok(());
        };
        let key = term.key.to_string();
        let attribute = term.key.attribute().unwrap_or_default();
        let (at, len) = [key.as_str(), attribute]
            .iter()
            .filter(|name| !name.is_empty())
            .find_map(|name| filter.find(name).map(|at| (at, name.len())))
            .unwrap_or((0, 0));
        let views: Vec<_> = crate::View::ALL
            .iter()
            .filter(|v| term.key.fits(**v) && !matches!(v, crate::View::Digest))
            .map(|v| v.word())
            .collect();
        Err(FilterError {
            filter: filter.to_owned(),
            at,
            len,
            what: format!("rows of `{view}` have no `{key}`"),
            hint: Some(format!("`{key}` can be asked of: {}", views.join(", "))),
        })
    }
}
