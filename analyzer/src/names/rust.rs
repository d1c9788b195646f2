//! Rust linkage names, legacy (`_ZN…17h<hash>E`) and v0 (`_R…`).

use super::Style;

/// Is this a Rust name, rather than a C++ one with the same `_ZN` beginning?
pub fn is_mangled(symbol: &str) -> bool {
    symbol.starts_with("_R") || is_legacy(symbol)
}

/// Legacy names end in a length-prefixed hash, `17h0123456789abcdefE`.
fn is_legacy(symbol: &str) -> bool {
    let Some((head, tail)) = symbol.rfind("17h").map(|at| symbol.split_at(at)) else {
        return false;
    };
    let Some((hash, rest)) = tail.get(3..19).zip(tail.get(19..)) else {
        return false;
    };
    head.starts_with("_ZN")
        && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        && (rest == "E" || rest.starts_with("E."))
}

/// The readable form without the hash; `Short` also drops generic arguments. `None` if malformed.
pub fn readable(symbol: &str, style: Style) -> Option<String> {
    let demangled = rustc_demangle::try_demangle(symbol).ok()?;
    let full = format!("{demangled:#}");
    let name = match style {
        Style::Short => without_generics(&full).unwrap_or(full),
        Style::Templates | Style::Full | Style::Mangled => full,
    };
    (!name.is_empty()).then_some(name)
}

/// Drops generic arguments: `<a::Vec<T> as b::Drop<U>>::f::<V>` → `<a::Vec as b::Drop>::f`.
/// `None` if the angle brackets do not balance.
fn without_generics(name: &str) -> Option<String> {
    /// What an open `<` stands for.
    #[derive(PartialEq)]
    enum Angle {
        /// `<T as Trait>` and `<impl Trait for T>` are paths themselves.
        Path,
        Arguments,
    }
    let mut short = String::with_capacity(name.len());
    let mut open = Vec::new();
    let mut dropping = 0_usize;
    let mut previous = None;
    for (at, character) in name.char_indices() {
        let arrow = matches!(previous, Some('-' | '='));
        match character {
            '<' => {
                let after_word = previous.is_some_and(|last: char| {
                    last.is_alphanumeric() || matches!(last, '_' | '}' | '>' | ')' | ']')
                });
                let turbofish = previous == Some(':') && !name[at + 1..].starts_with("impl ");
                if after_word || turbofish {
                    if turbofish && dropping == 0 && short.ends_with("::") {
                        short.truncate(short.len() - 2);
                    }
                    open.push(Angle::Arguments);
                    dropping += 1;
                } else {
                    open.push(Angle::Path);
                    if dropping == 0 {
                        short.push('<');
                    }
                }
            }
            '>' if !arrow => match open.pop()? {
                Angle::Arguments => dropping -= 1,
                Angle::Path if dropping == 0 => short.push('>'),
                Angle::Path => {}
            },
            _ if dropping == 0 => short.push(character),
            _ => {}
        }
        previous = Some(character);
    }
    open.is_empty().then_some(short)
}
