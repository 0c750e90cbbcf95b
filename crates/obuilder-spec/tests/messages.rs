//! What people are told about specs that cannot be built: the words of OBuilder, where, and what was expected.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ocluster_obuilder_spec::Spec;

fn explain(texts: &[&str]) -> String {
    texts
        .iter()
        .map(|text| {
            let error = Spec::parse(text.as_bytes()).unwrap_err();
            format!("{text}\n    {error}\n")
        })
        .collect()
}

#[test]
fn errors_of_the_shape_of_specs() {
    insta::assert_snapshot!(explain(&[
        "foo",
        "()",
        "((comment x))",
        "((from x y))",
        "((from (x)))",
        "((build a) (from x))",
        "((build (a) ((from x))) (from x))",
        "((build a b) (from x))",
        "((build a ()) (from x))",
        "((from x) foo)",
        "((from x) ())",
        "((from x) ((run) x))",
        "((from x)\n (foo a b))",
        "((from x) (RUN (shell a)))",
        "((from x) (Run (shell a)))",
        "((from x) (build a ((from x))))",
    ]));
}

#[test]
fn errors_of_operations() {
    insta::assert_snapshot!(explain(&[
        "((from x) (workdir))",
        "((from x) (comment a b))",
        "((from x) (shell (a)))",
        "((from x) (env A))",
        "((from x) (user root))",
        "((from x) (user (uid 1)))",
        "((from x) (user (gid 1) (uid 1)))",
        "((from x) (user (uid 1_x) (gid 1)))",
        "((from x) (user (uid 99999999999999999999) (gid 1)))",
        "((from x) (run))",
        "((from x) (run shell))",
        "((from x) (run (shell a b)))",
        "((from x) (run (shell a) (shell b)))",
        "((from x) (run (shell a) (foo b)))",
        "((from x) (run (shell a) (cache b)))",
        "((from x) (run (shell a) (cache (b))))",
        "((from x) (run (shell a) (cache (b (target /b) (buildkit_options x)))))",
        "((from x) (run (shell a) (cache (b (target /b) (buildkit_options ((x)))))))",
        "((from x) (run (shell a) (secrets b)))",
        "((from x) (run (shell a) (secrets (b (target)))))",
        "((from x) (copy))",
        "((from x) (copy (src a)))",
        "((from x) (copy (from b) (src a) (dst c)))",
        "((from x) (copy (from (build)) (src a) (dst c)))",
    ]));
}

#[test]
fn errors_of_what_is_well_formed_but_cannot_be_built() {
    insta::assert_snapshot!(explain(&[
        "((from \"\"))",
        "((from \"a\\000b\"))",
        "((from x)\n (run (shell \"a\\000b\")))",
        "((from x) (env A=B c))",
        "((from x) (env \"\" c))",
        "((from x) (run (cache (a (target b))) (shell x)))",
        "((from x) (run (secrets (a (target \"\"))) (shell x)))",
        "((build a ((from x)))\n (build a ((from y)))\n (from z))",
        "((build a ((from x)\n           (env B= c))) (from z))",
    ]));
}

/// Each stage sees what was listed before it, and nothing inside another.
#[test]
fn stages_are_copied_from_only_where_they_are_in_scope() {
    let copy = "(copy (from (build a)) (src x) (dst y))";
    for text in [
        format!("((build a ((from x))) (from x) {copy})"),
        format!("((build a ((from x))) (build b ((from x) {copy})) (from x))"),
        format!("((build a ((from x))) (build b ((build c ((from x) {copy})) (from x))) (from x))"),
        format!("((build a ((build a ((from x))) (from x))) (from x) {copy})"),
    ] {
        Spec::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let texts = [
        format!("((from x) {copy})"),
        format!("((build a ((from x) {copy})) (from x))"),
        format!("((build b ((from x) {copy})) (build a ((from x))) (from x))"),
        format!("((build b ((build a ((from x))) (from x))) (from x) {copy})"),
        format!("((build b ((build d ((from x))) (from x))) (build c ((from x))) (from x) {copy})"),
        format!("((build d ((from x))) (build c ((from x))) (build b ((from x))) (from x) {copy})"),
    ];
    insta::assert_snapshot!(explain(&texts.each_ref().map(String::as_str)));
}

#[test]
fn the_words_of_obuilder_are_apart_from_ours() {
    let error = Spec::parse(b"((from x)\n (run (shell a) (foo b)))").unwrap_err();
    assert_eq!(error.message(), "extra fields: foo");
    assert_eq!(error.position(), Some((2, 17)));
    assert!(
        error
            .expected()
            .unwrap()
            .starts_with("expected each once: (cache VALUE...)")
    );
}
