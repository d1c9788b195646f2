//! What of the memory in RAM is this process's alone, and its fair share of the rest.

use prof::record::Vital;
use std::path::Path;

/// Reads `smaps_rollup`, which Linux has since 4.14.
pub fn read(proc: &Path) -> Vec<(Vital, u64)> {
    std::fs::read_to_string(proc.join("smaps_rollup")).map_or(Vec::new(), |text| rollup(&text))
}

fn rollup(text: &str) -> Vec<(Vital, u64)> {
    let value = |line: &str| {
        let (key, rest) = line.split_once(':')?;
        Some((key.to_owned(), rest.split_whitespace().next()?.parse::<u64>().ok()? * 1024))
    };
    let (mut uss, mut pss) = (None, None);
    for (key, bytes) in text.lines().skip(1).filter_map(value) {
        match key.as_str() {
            "Pss" => pss = Some(bytes),
            "Private_Clean" | "Private_Dirty" | "Private_Hugetlb" => uss = Some(uss.unwrap_or(0) + bytes),
            _ => {}
        }
    }
    [uss.map(|bytes| (Vital::Uss, bytes)), pss.map(|bytes| (Vital::Pss, bytes))]
        .into_iter()
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uss_is_what_is_private() {
        let text = "5654ff2fe000-7ffd29eaa000 ---p 00000000 00:00 0    [rollup]\nRss:  1776 kB\nPss:  220 kB\n\
                    Pss_Dirty:  112 kB\nShared_Clean:  1624 kB\nPrivate_Clean:  40 kB\nPrivate_Dirty:  112 kB\n\
                    Private_Hugetlb:  8 kB\nSwapPss: 9 kB\n";
        assert_eq!(rollup(text), [(Vital::Uss, 160 << 10), (Vital::Pss, 220 << 10)]);
        assert_eq!(rollup(""), []);
    }
}
