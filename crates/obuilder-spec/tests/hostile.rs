//! Texts that were made to break a reader: large, deep, cut short, or not text at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::thread;

use bstr::ByteSlice as _;
use ocluster_obuilder_spec::{
    DockerfileOptions, MAX_DEPTH, MAX_STAGE_DEPTH, MAX_STAGES, MAX_TEXT, Op, Sexp, Spec,
};

fn error(text: &[u8]) -> String {
    let error = Spec::parse(text).unwrap_err().to_string();
    assert!(error.len() < 2000, "an error of {} bytes", error.len());
    error
}

/// Runs on a stack as small as that of a busy server's threads.
fn on_a_small_stack(body: fn()) {
    let thread = thread::Builder::new().stack_size(1 << 20);
    thread.spawn(body).unwrap().join().unwrap();
}

/// A spec of exactly the longest text.
fn largest(start: &str, filler: &[u8], end: &str) -> Vec<u8> {
    let room = MAX_TEXT - start.len() - end.len();
    let filler = filler
        .iter()
        .copied()
        .cycle()
        .take(room - room % filler.len());
    let mut text: Vec<u8> = start.bytes().chain(filler).chain(end.bytes()).collect();
    text.resize(MAX_TEXT, b' ');
    text
}

#[test]
fn a_spec_of_a_mebibyte_is_read_and_a_longer_one_is_not() {
    let mut text = largest("((from x) (run (shell \"", b"a\\n", "\")))");
    let spec = Spec::parse(&text).unwrap();
    assert_eq!(Spec::parse(&spec.to_mach()).unwrap(), spec);
    text.push(b' ');
    let error = error(&text);
    assert!(
        error.contains("the text is too long: 1048577 bytes"),
        "{error}"
    );
    assert!(error.contains("at most 1048576 bytes"), "{error}");
}

#[test]
fn a_mebibyte_of_operations_is_read() {
    let spec = Spec::parse(&largest("((from x)", b"(env A B)", ")")).unwrap();
    assert!(spec.ops.len() > 100_000);
    assert_eq!(spec.pretty().lines().count(), spec.ops.len() + 2);
    let spec = Spec::parse(&largest("((from x)", b"(shell)", ")")).unwrap();
    assert!(spec.ops.iter().all(|op| *op == Op::Shell(Vec::new())));
}

#[test]
fn a_million_parentheses_are_an_error() {
    on_a_small_stack(|| {
        let text = vec![b'('; 1_000_000];
        assert_eq!(
            error(&text),
            format!("line 1, column 1001: nested too deep; at most {MAX_DEPTH} levels are read")
        );
        assert!(error(&vec![b')'; 1_000_000]).contains("unexpected character: ')'"));
    });
}

/// A spec with so many levels of stages within stages.
fn nested_stages(depth: usize) -> String {
    let inner = "((from x))".to_owned();
    [
        "((build a ".repeat(depth),
        inner,
        ")(from x))".repeat(depth),
    ]
    .concat()
}

#[test]
fn the_deepest_stages_that_are_read_can_also_be_checked_printed_and_dropped() {
    on_a_small_stack(|| {
        let spec = Spec::parse(nested_stages(MAX_STAGE_DEPTH).as_bytes()).unwrap();
        assert_eq!(Spec::parse(&spec.pretty()).unwrap(), spec);
        assert_eq!(Spec::parse(spec.to_string().as_bytes()).unwrap(), spec);
        assert!(!spec.to_dockerfile(&DockerfileOptions::default()).is_empty());
    });
}

#[test]
fn stages_that_are_nested_deeper_are_refused() {
    on_a_small_stack(|| {
        for depth in [MAX_STAGE_DEPTH + 1, MAX_DEPTH / 2 - 1] {
            let error = error(nested_stages(depth).as_bytes());
            assert!(
                error.contains("builds are nested too deep; at most 100 levels are read"),
                "{error}"
            );
        }
        let deeper = Spec {
            stages: vec![(
                "a".into(),
                Spec::parse(nested_stages(MAX_STAGE_DEPTH).as_bytes()).unwrap(),
            )],
            from: "x".into(),
            ops: Vec::new(),
        };
        let error = deeper.check().unwrap_err();
        assert_eq!(error.message(), "builds are nested too deep");
        assert_eq!(error.position(), None);
    });
}

/// A spec with so many stages, half of them within the others.
fn many_stages(number: usize) -> String {
    let pairs = (0..number / 2)
        .map(|n| format!("(build s{n} ((build inner ((from x))) (from x)))\n"))
        .collect::<String>();
    let odd = ["", "(build odd ((from x)))"][number % 2];
    format!("({pairs}{odd}(from x))")
}

#[test]
fn a_spec_has_a_limited_number_of_stages() {
    assert!(Spec::parse(many_stages(MAX_STAGES).as_bytes()).is_ok());
    for number in [MAX_STAGES + 1, 36_000] {
        let text = many_stages(number);
        assert_eq!(
            error(text.as_bytes()),
            "line 501, column 1: too many builds in one spec; expected at most 1000, those within builds included"
        );
    }
}

#[test]
fn the_deepest_list_that_is_read_is_no_spec() {
    on_a_small_stack(|| {
        let text = "(".repeat(MAX_DEPTH) + &")".repeat(MAX_DEPTH);
        assert!(Sexp::parse(text.as_bytes()).is_ok());
        assert!(error(text.as_bytes()).contains("Invalid spec item: "));
    });
}

#[test]
fn chains_of_discards_take_no_stack() {
    on_a_small_stack(|| {
        assert!(error(&b"#;".repeat(500_000)).contains("unterminated sexp comment"));
        let text = [
            b"#;".repeat(100_000),
            b"a ".repeat(100_000),
            b"((from x))".to_vec(),
        ]
        .concat();
        assert_eq!(Spec::parse(&text).unwrap().from, "x");
        assert!(error(&b"#;(".repeat(300_000)).contains("nested too deep"));
    });
}

#[test]
fn nested_comments_take_no_stack() {
    on_a_small_stack(|| {
        let nested = |ends| {
            [
                b"#|".repeat(200_000),
                b"|#".repeat(ends),
                b"((from x))".to_vec(),
            ]
            .concat()
        };
        assert_eq!(Spec::parse(&nested(200_000)).unwrap().from, "x");
        let unterminated = error(&nested(199_999));
        assert!(
            unterminated.contains("the comment that starts at line 1, column 1; expected '|#'"),
            "{unterminated}"
        );
    });
}

#[test]
fn whatever_is_cut_short_is_incomplete() {
    let whole: &[u8] =
        b"((from \"x\\065\\x41\\\n y\") #| \"|#\" |# (run (shell a) (network host)))";
    assert!(Spec::parse(whole).is_ok());
    for end in 0..whole.len() {
        let error = error(&whole[..end]);
        assert!(error.contains("incomplete S-expression"), "{end}: {error}");
        assert!(error.contains("expected"), "{end}: {error}");
    }
}

#[test]
fn bytes_that_are_no_text_are_kept() {
    let spec = Spec::parse(b"((from \xff) (comment \"\xc3\x28\n\xed\xa0\x80\") (env \xfe a\x7f))")
        .unwrap();
    assert_eq!(spec.from, b"\xff".as_slice());
    assert_eq!(Spec::parse(&spec.to_mach()).unwrap(), spec);
    assert_eq!(Spec::parse(&spec.pretty()).unwrap(), spec);
    assert!(spec.to_mach().is_ascii());
    assert!(error(b"\xff\xfe").contains(r#"Invalid spec: "\255\254""#));
}

#[test]
fn a_name_of_a_mebibyte_is_not_repeated_in_errors() {
    let name = "n".repeat(500_000);
    for text in [
        format!("((from x) (copy (from (build {name})) (src a) (dst b)))"),
        format!("((build {name} ((from x))) (build {name} ((from x))) (from x))"),
        format!("((build {name} ((from x))) (from x) (copy (from (build a)) (src a) (dst b)))"),
        format!("((from x) (env {name}= a))"),
        format!("((from x) (run (shell x) (cache ({name} (target {name})))))"),
        format!("((from x) (run ({name} x)))"),
        format!("((from x) ({name} x))"),
        name.clone(),
    ] {
        error(text.as_bytes());
    }
    let many: String = (0..MAX_STAGES)
        .map(|index| format!("(build s{index} ((from x)))"))
        .collect();
    let error =
        error(format!("({many} (from x) (copy (from (build a)) (src a) (dst b)))").as_bytes());
    assert!(error.contains("Did you mean one of "), "{error}");
}
