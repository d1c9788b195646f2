use proptest::prelude::*;

use super::{Style, demangle, display};

/// Linkage name, short, with templates.
const CASES: &[(&str, &str, &str)] = &[
    ("main", "main", "main"),
    ("_Z3fooi", "foo", "foo"),
    (
        "_ZN10tensorflow13DirectSession20GetOrCreateExecutorsEN4absl4SpanIKSsEEPPNS0_16ExecutorsAndKeysE",
        "tensorflow::DirectSession::GetOrCreateExecutors",
        "tensorflow::DirectSession::GetOrCreateExecutors",
    ),
    (
        "_ZNSt10_HashtableIiSaIiEE10_M_emplaceIJRiEEESt4pairIibESt17integral_constantIbLb1EEDpOT_",
        "std::_Hashtable::_M_emplace",
        "std::_Hashtable<int, std::allocator<int> >::_M_emplace<int&>",
    ),
    ("_ZZ3fooiENKUliE_clEi", "foo::{lambda#1}::operator()", "foo::{lambda#1}::operator()"),
    (
        "_ZZZ9callapplyvENKUlT_E_clIiEEDaS_ENKUlS_E_clIiEEDaS_",
        "callapply::{lambda#1}::operator()::{lambda#1}::operator()",
        "callapply::{lambda#1}::operator()<int>::{lambda#1}::operator()<int>",
    ),
    ("_ZN1AclIdEEvT_", "A::operator()", "A::operator()<double>"),
    ("_ZNK1AltERKS_", "A::operator<", "A::operator<"),
    ("_ZNK1AltIiEEbT_", "A::operator<", "A::operator< <int>"),
    ("_ZN1AlsEi", "A::operator<<", "A::operator<<"),
    ("_ZN1AptEv", "A::operator->", "A::operator->"),
    ("_ZN1AnaEm", "A::operator new[]", "A::operator new[]"),
    ("_ZNK1AcvbEv", "A::operator bool", "A::operator bool"),
    ("_ZNK1AcvPFiiEEv", "A::operator int (*)(int)", "A::operator int (*)(int)"),
    (
        "_ZNK1AcvNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEEv",
        "A::operator std::__cxx11::basic_string",
        "A::operator std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> >",
    ),
    ("_ZN12_GLOBAL__N_11fEi", "(anonymous namespace)::f", "(anonymous namespace)::f"),
    ("_ZN12_GLOBAL__N_11BC2Ei", "(anonymous namespace)::B::B", "(anonymous namespace)::B::B"),
    ("_ZN1AD1Ev", "A::~A", "A::~A"),
    ("_ZN3FooC4Ev", "Foo::Foo", "Foo::Foo"),
    ("_Z3fptIXadL_Z1giEEJicEEvDpT0_", "fpt", "fpt<&g(int), int, char>"),
    ("_Z2dtIiEDTplfp_Li1EET_", "dt", "dt<int>"),
    ("_Z6tretfpIiEPFvicET_", "tretfp", "tretfp<int>"),
    ("_Z3barB5cxx11v", "bar", "bar"),
    ("_ZN3FooB5cxx113barEv", "Foo::bar", "Foo::bar"),
    ("_ZNO1A1fEv", "A::f", "A::f"),
    ("_ZZNK1A1fEiE1x", "A::f::x", "A::f::x"),
    ("_ZNSs6assignEPKc", "std::string::assign", "std::string::assign"),
    ("_Z3foov.cold", "foo", "foo"),
    ("_Z3foov.isra.0", "foo", "foo"),
    ("_Z3foov.part.1.cold", "foo", "foo"),
    ("_Z3foov.constprop.0", "foo", "foo"),
    ("_Z3foov.llvm.123456", "foo", "foo"),
    ("foo.part.0", "foo", "foo"),
    ("foo.version.2", "foo.version.2", "foo.version.2"),
    ("malloc@plt", "malloc@plt", "malloc@plt"),
    ("memcpy@@GLIBC_2.14", "memcpy", "memcpy"),
    ("_Z3fooi@plt", "foo@plt", "foo@plt"),
    ("_ZThn16_N3Foo3barEi", "non-virtual thunk to Foo::bar", "non-virtual thunk to Foo::bar"),
    ("_ZTv0_n24_N3Foo3barEi", "virtual thunk to Foo::bar", "virtual thunk to Foo::bar"),
    ("libfoo.so.1!fn+0x12340", "libfoo.so.1!fn+0x12340", "libfoo.so.1!fn+0x12340"),
    ("libfoo.so.1!0x12", "libfoo.so.1!0x12", "libfoo.so.1!0x12"),
    ("$s4main3fooyyF", "$s4main3fooyyF", "$s4main3fooyyF"),
    ("_ZN", "_ZN", "_ZN"),
    ("_ZN17h0123456789abcdefE", "_ZN17h0123456789abcdefE", "_ZN17h0123456789abcdefE"),
    ("_Zq.cold@plt", "_Zq.cold@plt", "_Zq.cold@plt"),
    ("", "", ""),
    (
        "_ZN4core3ptr42drop_in_place$LT$alloc..string..String$GT$17h0123456789abcdefE",
        "core::ptr::drop_in_place",
        "core::ptr::drop_in_place<alloc::string::String>",
    ),
    (
        "_ZN66_$LT$alloc..vec..Vec$LT$T$GT$$u20$as$u20$core..ops..drop..Drop$GT$4drop17h0123456789abcdefE.llvm.77",
        "<alloc::vec::Vec as core::ops::drop::Drop>::drop",
        "<alloc::vec::Vec<T> as core::ops::drop::Drop>::drop",
    ),
    (
        "_RINvNtCsbmNqQUJIY6D_4core3ptr13drop_in_placehE",
        "core::ptr::drop_in_place",
        "core::ptr::drop_in_place::<u8>",
    ),
];

#[test]
fn names_in_both_short_styles() {
    for (linkage, short, templates) in CASES {
        assert_eq!(display(linkage, Style::Short), *short, "{linkage}");
        assert_eq!(display(linkage, Style::Templates), *templates, "{linkage}");
        assert_eq!(display(linkage, Style::Mangled), *linkage);
    }
}

#[test]
fn full_names_keep_everything() {
    for (linkage, full) in [
        ("_Z3fooi", "foo(int)"),
        ("_Z3foov.cold", "foo() [clone .cold]"),
        ("_ZThn16_N3Foo3barEi", "non-virtual thunk to Foo::bar(int)"),
        ("memcpy@@GLIBC_2.14", "memcpy@@GLIBC_2.14"),
        ("_ZZ3fooiENKUliE_clEi", "foo(int)::{lambda(int)#1}::operator()(int) const"),
        ("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt"),
    ] {
        assert_eq!(demangle(linkage), full);
    }
}

/// Deep nesting, and substitutions that double the output at every step.
#[test]
fn bombs_come_back_unchanged() {
    let deep = [
        format!("_Z1f{}i", "P".repeat(60_000)),
        format!("_Z1f{}iE", "N1A".repeat(15_000)),
        format!("_Z1f{}i{}", "1AI".repeat(15_000), "E".repeat(15_000)),
        format!("_Z1fIX{}EE", "szpl".repeat(10_000)),
        format!("_Z{}1fvE1x", "Z".repeat(50_000)),
        format!("_R{}", "NvC1a".repeat(10_000)),
        format!("_RIC0{}E", "FRRRSSTp".repeat(5_000)),
    ];
    let doubling = (0..40).fold(String::from("_Z1f1A"), |name, step| {
        let number = match step {
            0 => "S_".to_owned(),
            step => format!("S{}_", base36(step - 1)),
        };
        format!("{name}1BI{number}{number}E")
    });
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let check = move || {
        for bomb in deep.iter().chain([&doubling]) {
            for style in [Style::Short, Style::Templates, Style::Full] {
                assert!(display(bomb, style).len() < 2 << 20);
            }
        }
    };
    thread.spawn(check).unwrap().join().unwrap();
}

fn base36(number: u32) -> char {
    char::from_digit(number, 36).unwrap_or('z').to_ascii_uppercase()
}

fn balanced(name: &str) -> bool {
    let mut open = 0_i64;
    for character in name.chars() {
        match character {
            '(' => open += 1,
            ')' => open -= 1,
            _ => {}
        }
        if open < 0 {
            return false;
        }
    }
    open == 0
}

/// Names assembled from pieces of the Itanium grammar: many are well formed.
fn mangled() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "N",
        "E",
        "I",
        "1A",
        "3foo",
        "St",
        "Sa",
        "Ss",
        "S_",
        "S0_",
        "T_",
        "K",
        "P",
        "R",
        "i",
        "v",
        "C1",
        "D2",
        "cl",
        "lt",
        "ls",
        "cv",
        "Z",
        "UliE_",
        "12_GLOBAL__N_1",
        "J",
        "L_Z1gvE",
        "X",
        "DT",
        "fp_",
        "B5cxx11",
        "F",
        "pt",
        "Li3E",
        "_",
        "d",
        "Dp",
        "T0_",
        "Ut_",
        "17h0123456789abcdefE",
    ]);
    let start =
        prop::sample::select(vec!["_Z", "_ZN", "_ZZ", "_ZNK", "_ZThn8_N", "_ZTv0_n8_N", "_R", "_RNv"]);
    (start, prop::collection::vec(piece, 0..24))
        .prop_map(|(start, pieces)| format!("{start}{}", pieces.concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_survived(text in "\\PC{0,60}") {
        for style in [Style::Short, Style::Templates, Style::Full, Style::Mangled] {
            display(&text, style);
        }
    }

    #[test]
    fn mangled_names_become_balanced_and_never_empty(linkage in mangled()) {
        for style in [Style::Short, Style::Templates, Style::Full] {
            let name = display(&linkage, style);
            prop_assert!(balanced(&name), "{linkage}: {name}");
            prop_assert!(!name.is_empty());
        }
    }

    #[test]
    fn plain_names_are_left_alone(name in "[a-zA-Z][a-zA-Z0-9_]{0,20}(::[a-z][a-z0-9_]{0,8}){0,3}") {
        for style in [Style::Short, Style::Templates, Style::Full, Style::Mangled] {
            prop_assert_eq!(display(&name, style), name.as_str());
        }
    }

    #[test]
    fn shortening_twice_changes_nothing(linkage in mangled()) {
        let once = display(&linkage, Style::Short).into_owned();
        if once != linkage {
            let twice = display(&once, Style::Short).into_owned();
            prop_assert_eq!(twice, once);
        }
    }
}
