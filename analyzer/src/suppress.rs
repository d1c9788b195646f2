//! Suppressions in LeakSanitizer's format: which stacks are known, and not to be shown.
//!
//! ```text
//! # a comment
//! leak:PATTERN    matches a part of a function's name, source file or module
//! ```
//!
//! In a pattern `*` stands for any characters, `^` at its beginning for the beginning of the text and `$` at its end for the
//! end.

use regex::{RegexSet, RegexSetBuilder};
use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The patterns of a file.
#[derive(Clone, Debug)]
pub struct Suppressions {
    /// The file.
    pub path: PathBuf,
    /// In its order, as they stand there.
    pub patterns: Vec<String>,
    set: RegexSet,
}

/// Why a file cannot be used.
#[derive(Debug)]
pub enum SuppressionError {
    /// It cannot be read.
    Read(PathBuf, io::Error),
    /// A line, counted from 1, is not of the format.
    Line(PathBuf, usize, String),
    /// All patterns together are too large.
    Size(PathBuf),
}

impl fmt::Display for SuppressionError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            SuppressionError::Read(path, error) => write!(f, "failed to read {}: {error}", path.display()),
            SuppressionError::Line(path, line, text) => {
                write!(f, "failed to read {}: line {line}: '{text}' is not leak:PATTERN", path.display())
            }
            SuppressionError::Size(path) => {
                write!(f, "failed to read {}: the patterns are too large", path.display())
            }
        }
    }
}

impl std::error::Error for SuppressionError {}

impl Suppressions {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, or a line is neither empty, nor a comment, nor a pattern.
    pub fn read(path: &Path) -> Result<Suppressions, SuppressionError> {
        let bytes = fs::read(path).map_err(|error| SuppressionError::Read(path.to_owned(), error))?;
        Suppressions::parse(path, &String::from_utf8_lossy(&bytes))
    }

    /// Reads what stands in a file.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Suppressions, SuppressionError> {
        let mut patterns = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.strip_prefix("leak:").filter(|pattern| !pattern.is_empty()) {
                Some(pattern) => patterns.push(pattern.to_owned()),
                None => {
                    let shown = line.chars().take(80).collect();
                    return Err(SuppressionError::Line(path.to_owned(), number + 1, shown));
                }
            }
        }
        let expressions: Vec<String> = patterns.iter().map(|pattern| expression(pattern)).collect();
        let set = RegexSetBuilder::new(expressions).dot_matches_new_line(true).build();
        let set = set.map_err(|_| SuppressionError::Size(path.to_owned()))?;
        Ok(Suppressions { path: path.to_owned(), patterns, set })
    }

    /// The first pattern that matches a text, by its place.
    pub fn matching(&self, text: &str) -> Option<usize> {
        self.set.matches(text).iter().next()
    }
}

/// A pattern as a regular expression.
fn expression(pattern: &str) -> String {
    let (start, rest) = match pattern.strip_prefix('^') {
        Some(rest) => ("^", rest),
        None => ("", pattern),
    };
    let (body, end) = rest.split_once('$').map_or((rest, ""), |(body, _)| (body, "$"));
    let parts: Vec<String> = body.split('*').map(regex::escape).collect();
    format!("{start}{}{end}", parts.join(".*"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Suppressions, String> {
        Suppressions::parse(Path::new("s"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn patterns_match_as_in_leaksanitizer() {
        let cases = [
            ("foo", "a::foobar", true),
            ("foo", "a::fo", false),
            ("f*r", "a::foobar", true),
            ("r*f", "a::foobar", false),
            ("^foo", "a::foobar", false),
            ("^a::", "a::foobar", true),
            ("bar$", "a::foobar", true),
            ("foo$", "a::foobar", false),
            ("^a*r$", "a::foobar", true),
            ("^a::foobar$", "a::foobar", true),
            ("foo$", "foofoo", true),
            ("a.b", "axb", false),
            ("operator new[]", "operator new[](unsigned long)", true),
        ];
        for (pattern, text, matches) in cases {
            let all = parse(&format!("leak:{pattern}")).unwrap();
            assert_eq!(all.matching(text).is_some(), matches, "{pattern} of {text}");
        }
    }

    #[test]
    fn comments_and_empty_lines_are_passed_over_and_the_first_pattern_counts() {
        let all = parse("# known\n\n  leak:foo \r\nleak:bar\n").unwrap();
        assert_eq!(all.patterns, ["foo", "bar"]);
        assert_eq!(all.matching("barfoo"), Some(0));
        assert_eq!(all.matching("bar"), Some(1));
        assert_eq!(all.matching("baz"), None);
        assert_eq!(parse("").unwrap().matching(""), None);
    }

    #[test]
    fn other_lines_are_refused_with_their_number() {
        for (text, line) in [("leak:a\nrace:b", "line 2: 'race:b'"), ("leak:", "line 1: 'leak:'")] {
            let error = parse(text).unwrap_err();
            assert_eq!(error, format!("failed to read s: {line} is not leak:PATTERN"));
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total(text: String) {
            let _ = parse(&text);
            let _ = parse(&format!("leak:{text}"));
        }
    }
}
