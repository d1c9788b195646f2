//! From linkage names to names that a person reads.
//!
//! Stacks are merged on the linkage name; this room only decides how such a name is written.
//! Every function is total: what is not understood comes back unchanged.

mod cplusplus;
mod rust;

use std::borrow::Cow;

/// Longest linkage name that is demangled, in bytes; longer ones are shown as they are.
const LONGEST_LINKAGE_NAME: usize = 64 << 10;

/// How much of a name is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// No parameters, return types, template arguments, qualifiers, ABI tags or clone suffixes:
    /// `std::_Hashtable::_M_emplace`.
    #[default]
    Short,
    /// `Short` with the template arguments kept.
    Templates,
    /// Everything that the linkage name says.
    Full,
    /// The linkage name itself.
    Mangled,
}

/// The full readable form of a linkage name, or the name itself if it is not a mangled one.
pub fn demangle(linkage: &str) -> Cow<'_, str> {
    display(linkage, Style::Full)
}

/// A linkage name in the given style.
///
/// Names without symbols (`lib.so!fn+0x1240`, `lib.so!0x1242`) are never changed. `@plt` stays
/// in every style; symbol versions (`@@GLIBC_2.2.5`) and clone suffixes (`.cold`, `.isra.0`) only
/// in `Full` and `Mangled`.
pub fn display(linkage: &str, style: Style) -> Cow<'_, str> {
    if style == Style::Mangled || linkage.contains('!') || linkage.len() > LONGEST_LINKAGE_NAME {
        return Cow::Borrowed(linkage);
    }
    let (symbol, version) = split_version(linkage);
    let kept_version = match style {
        Style::Full => version,
        _ if version == "@plt" => version,
        _ => "",
    };
    let symbol = match style {
        Style::Full => symbol,
        _ => without_clone_suffixes(symbol),
    };
    let name = if rust::is_mangled(symbol) {
        rust::readable(symbol, style).map(Cow::Owned)
    } else if symbol.starts_with("_Z") {
        cplusplus::readable(symbol, style).map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(symbol))
    };
    match name {
        Some(name) if kept_version.is_empty() => name,
        Some(name) => Cow::Owned(name.into_owned() + kept_version),
        None => Cow::Borrowed(linkage),
    }
}

/// Splits `malloc@plt` and `memcpy@@GLIBC_2.14` before the `@`.
fn split_version(linkage: &str) -> (&str, &str) {
    match linkage.find('@') {
        Some(at) if at > 0 => linkage.split_at(at),
        _ => (linkage, ""),
    }
}

/// Suffixes that compilers give to the parts and copies of one function.
const CLONE_SUFFIXES: [&str; 11] = [
    "cold",
    "isra",
    "part",
    "constprop",
    "clone",
    "llvm",
    "lto_priv",
    "localalias",
    "warm",
    "hot",
    "unlikely",
];

/// `foo.isra.0.cold` → `foo`; a suffix that is not known stays.
fn without_clone_suffixes(symbol: &str) -> &str {
    let mut rest = symbol;
    loop {
        let stem = match rest.rsplit_once('.') {
            Some((head, number)) if is_number(number) => head,
            _ => rest,
        };
        match stem.rsplit_once('.') {
            Some((head, suffix)) if !head.is_empty() && CLONE_SUFFIXES.contains(&suffix) => {
                rest = head;
            }
            _ => return rest,
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
