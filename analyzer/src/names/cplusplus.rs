//! C++ linkage names (Itanium ABI).
//!
//! The demangler reports the syntax it writes (names, template arguments). Every written byte is
//! given its [`Part`], and shortening is a walk over those bytes: only brackets that are syntax
//! are counted, never those of `operator<`, `operator()` or `(anonymous namespace)`.

use std::borrow::Cow;
use std::fmt;

use cpp_demangle::{BorrowedSymbol, DemangleNodeType, DemangleOptions, DemangleWrite, ParseOptions};

use super::Style;

/// Nesting that is tried on the caller's stack, which may have 2 MiB: a level takes up to 40 KiB in
/// a debug build and 4 KiB in a release build. 97 of 100 names in LLVM need no more than 32.
const SHALLOW: u32 = if cfg!(debug_assertions) { 32 } else { 128 };
/// Nesting that is tried on a stack of its own, of `DEEP_STACK` bytes.
const DEEP: u32 = 512;
const DEEP_STACK: usize = 48 << 20;
/// Longest text written for one name, in bytes: substitutions can make it exponential.
const LONGEST_NAME: usize = 256 << 10;

/// The readable form, or `None` if the name is malformed, too deep or too long.
pub fn readable(symbol: &str, style: Style) -> Option<String> {
    match attempt(symbol, style, SHALLOW) {
        Err(Failure::TooDeep) => std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(DEEP_STACK)
                .spawn_scoped(scope, || attempt(symbol, style, DEEP))
                .ok()?
                .join()
                .ok()?
                .ok()
        }),
        outcome => outcome.ok(),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Failure {
    TooDeep,
    Malformed,
}

fn attempt(symbol: &str, style: Style, depth: u32) -> Result<String, Failure> {
    let (prefix, encoding) = match split_thunk(symbol) {
        Some((prefix, target)) => (prefix, Cow::Owned(format!("_Z{target}"))),
        None => ("", Cow::Borrowed(symbol)),
    };
    let parse = ParseOptions::default().recursion_limit(depth);
    let parsed =
        BorrowedSymbol::new_with_options(encoding.as_bytes(), &parse).map_err(|error| match error {
            cpp_demangle::error::Error::TooMuchRecursion => Failure::TooDeep,
            _ => Failure::Malformed,
        })?;
    // Virtual tables, type information and the like have no parameters to drop.
    let whole = matches!(style, Style::Full | Style::Mangled) || encoding.starts_with("_ZT");
    let options = DemangleOptions::new().recursion_limit(2 * depth);
    let options = if whole { options } else { options.no_params().no_return_type() };
    let mut written = Written::default();
    if parsed.structured_demangle(&mut written, &options).is_err() {
        return Err(if written.too_long { Failure::Malformed } else { Failure::TooDeep });
    }
    let name = if whole {
        written.text
    } else {
        written.shortened(style == Style::Templates).ok_or(Failure::Malformed)?
    };
    if name.is_empty() {
        return Err(Failure::Malformed);
    }
    Ok(format!("{prefix}{name}"))
}

/// Splits `_ZThn16_…` and `_ZTv0_n24_…` into a description and the target's encoding.
fn split_thunk(symbol: &str) -> Option<(&'static str, &str)> {
    let thunk = symbol.strip_prefix("_ZT")?;
    if let Some(offset) = thunk.strip_prefix('h') {
        Some(("non-virtual thunk to ", skip_offset(offset)?))
    } else {
        let offsets = thunk.strip_prefix('v')?;
        Some(("virtual thunk to ", skip_offset(skip_offset(offsets)?)?))
    }
}

/// Skips `n24_`.
fn skip_offset(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('n').unwrap_or(text);
    let rest = digits.trim_start_matches(|character: char| character.is_ascii_digit());
    (rest.len() < digits.len()).then(|| rest.strip_prefix('_')).flatten()
}

/// What a written byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Punctuation, parameters, qualifiers, and the words of standard substitutions (`std::`).
    Syntax,
    /// One component of a name, with all its own punctuation: `operator()`, `{lambda(int)#1}`.
    Name,
    /// Template arguments with their angle brackets.
    Arguments,
}

/// The full text and the part that each of its bytes belongs to.
#[derive(Default)]
struct Written {
    text: String,
    parts: Vec<Part>,
    nodes: Vec<DemangleNodeType>,
    /// Open nodes that are names, and that are template arguments.
    names: usize,
    arguments: usize,
    /// A template-arguments node just ended: its `>` is written next, outside of the node.
    closing: bool,
    /// Writing stopped at `LONGEST_NAME`.
    too_long: bool,
}

impl DemangleWrite for Written {
    fn push_demangle_node(&mut self, node: DemangleNodeType) {
        self.nodes.push(node);
        match node {
            DemangleNodeType::TemplateArgs => {
                if self.arguments == 0 {
                    self.claim_opening_bracket();
                }
                self.arguments += 1;
            }
            node if is_name(node) => self.names += 1,
            _ => {}
        }
    }

    fn pop_demangle_node(&mut self) {
        match self.nodes.pop() {
            Some(DemangleNodeType::TemplateArgs) => {
                self.arguments -= 1;
                self.closing = self.arguments == 0;
            }
            Some(node) if is_name(node) => self.names -= 1,
            _ => {}
        }
    }

    fn write_string(&mut self, text: &str) -> fmt::Result {
        if self.text.len() + text.len() > LONGEST_NAME {
            self.too_long = true;
            return Err(fmt::Error);
        }
        let part = if self.arguments > 0 || std::mem::take(&mut self.closing) {
            Part::Arguments
        } else if self.names > 0 {
            Part::Name
        } else {
            Part::Syntax
        };
        self.text.push_str(text);
        self.parts.resize(self.text.len(), part);
        Ok(())
    }
}

/// A node whose brackets are part of one component. The demangler reports `decltype (…)` as a
/// template parameter.
fn is_name(node: DemangleNodeType) -> bool {
    matches!(
        node,
        DemangleNodeType::UnqualifiedName | DemangleNodeType::TemplateParam | DemangleNodeType::Decltype
    )
}

impl Written {
    /// The `<` (after `operator<` written as ` <`) comes before its template-arguments node.
    fn claim_opening_bracket(&mut self) {
        let bracket = if self.text.ends_with(" <") { 2 } else { 1 };
        let start = self.parts.len().saturating_sub(bracket);
        self.parts[start..].fill(Part::Arguments);
    }

    /// Drops parameters, qualifiers and ABI tags, and template arguments unless they are wanted.
    /// `None` if the brackets do not balance.
    fn shortened(&self, keep_arguments: bool) -> Option<String> {
        let mut short = Vec::with_capacity(self.text.len());
        let mut parentheses = 0_usize;
        let mut angles = 0_usize;
        let mut at = 0;
        while let (Some(&byte), Some(part)) = (self.text.as_bytes().get(at), self.parts.get(at)) {
            let outside = parentheses == 0 && angles == 0;
            let mut length = 1;
            match (part, byte) {
                (Part::Syntax, b'(') => parentheses += 1,
                (Part::Syntax, b')') => parentheses = parentheses.checked_sub(1)?,
                (Part::Syntax, b'<' | b'>') => {
                    if byte == b'<' {
                        angles += 1;
                    } else {
                        angles = angles.checked_sub(1)?;
                    }
                    if keep_arguments && parentheses == 0 {
                        short.push(byte);
                    }
                }
                (Part::Syntax, _) if outside => match self.qualifier_at(at) {
                    Some(qualifier) => length = qualifier,
                    None => short.push(byte),
                },
                (Part::Name, b'{') if outside && self.rest(at).starts_with(b"{lambda") => {
                    short.extend_from_slice(b"{lambda");
                    length = self.lambda_head(at)?;
                }
                (Part::Name, b'[') if outside && self.rest(at).starts_with(b"[abi:") => {
                    length = self.rest(at).iter().position(|&byte| byte == b']')? + 1;
                }
                (Part::Name, _) if outside => short.push(byte),
                (Part::Arguments | Part::Syntax, _) if keep_arguments && parentheses == 0 => {
                    short.push(byte);
                }
                _ => {}
            }
            at += length;
        }
        if parentheses != 0 || angles != 0 {
            return None;
        }
        String::from_utf8(short).ok()
    }

    fn rest(&self, at: usize) -> &[u8] {
        &self.text.as_bytes()[at..]
    }

    /// Length of the qualifier that begins here: ` const`, ` &&`.
    fn qualifier_at(&self, at: usize) -> Option<usize> {
        let rest = self.rest(at);
        [" const", " volatile", " restrict", " &&", " &"]
            .iter()
            .find(|qualifier| {
                rest.strip_prefix(qualifier.as_bytes())
                    .is_some_and(|after| matches!(after.first(), None | Some(b':' | b' ')))
            })
            .map(|qualifier| qualifier.len())
    }

    /// Length of `{lambda(…)`, up to the `#` of its number.
    fn lambda_head(&self, at: usize) -> Option<usize> {
        let mut open = 0_usize;
        for (length, byte) in self.rest(at).iter().enumerate().skip(1) {
            match byte {
                b'(' | b'{' => open += 1,
                b')' | b'}' => open = open.checked_sub(1)?,
                b'#' if open == 0 => return Some(length),
                _ => {}
            }
        }
        None
    }
}
