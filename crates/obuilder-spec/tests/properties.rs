//! What holds for every spec, and for any bytes at all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bstr::BString;
use ocluster_obuilder_spec::{Cache, Copy, CopySource, Op, Run, Secret, Sexp, Spec, User, fuzzing};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that the syntax gives a meaning are as frequent as all others together.
fn atom() -> impl Strategy<Value = BString> {
    let byte = prop_oneof![
        proptest::sample::select(b"\n\t\r \"\\#|;()'x0a=".as_slice()),
        any::<u8>(),
    ];
    vec(byte, 0..12).prop_map(BString::from)
}

fn sexp() -> impl Strategy<Value = Sexp> {
    atom()
        .prop_map(Sexp::atom)
        .prop_recursive(5, 40, 6, |inner| vec(inner, 0..6).prop_map(Sexp::list))
}

/// An atom that a program can be given.
fn word() -> impl Strategy<Value = BString> {
    atom().prop_map(|atom| {
        atom.iter()
            .copied()
            .filter(|&byte| byte != 0)
            .collect::<Vec<_>>()
            .into()
    })
}

fn words() -> impl Strategy<Value = Vec<BString>> {
    vec(word(), 0..4)
}

fn path() -> impl Strategy<Value = BString> {
    word().prop_map(|word| [b"/".as_slice(), &word].concat().into())
}

fn options() -> impl Strategy<Value = Vec<(BString, BString)>> {
    vec((word(), word()), 0..3)
}

fn run() -> impl Strategy<Value = Run> {
    let caches = vec((word(), path(), options()), 0..3);
    let secrets = vec((word(), path(), options()), 0..3);
    (caches, words(), secrets, word()).prop_map(|(caches, network, secrets, shell)| Run {
        caches: caches
            .into_iter()
            .map(|(id, target, buildkit_options)| Cache {
                id,
                target,
                buildkit_options,
            })
            .collect(),
        network,
        secrets: secrets
            .into_iter()
            .map(|(id, target, buildkit_options)| Secret {
                id,
                target,
                buildkit_options,
            })
            .collect(),
        shell,
    })
}

fn op() -> impl Strategy<Value = Op> {
    let name = "[A-Za-z_][A-Za-z0-9_]{0,8}";
    prop_oneof![
        word().prop_map(Op::Comment),
        word().prop_map(Op::Workdir),
        words().prop_map(Op::Shell),
        (name, word()).prop_map(|(name, value)| Op::Env {
            name: name.into(),
            value
        }),
        (any::<i64>(), any::<i64>()).prop_map(|(uid, gid)| Op::User(User::Unix { uid, gid })),
        word().prop_map(|name| Op::User(User::Named(name))),
        run().prop_map(Op::Run),
        (words(), word(), words()).prop_map(|(src, dst, exclude)| {
            Op::Copy(Copy {
                from: CopySource::Context,
                src,
                dst,
                exclude,
            })
        }),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let base = || word().prop_filter("a base has a name", |base| !base.is_empty());
    let simple = (base(), vec(op(), 0..6)).prop_map(|(from, ops)| Spec {
        stages: Vec::new(),
        from,
        ops,
    });
    simple.prop_recursive(3, 12, 3, move |inner| {
        (vec((word(), inner), 0..3), base(), vec(op(), 0..4)).prop_map(
            |(mut stages, from, mut ops)| {
                stages.dedup_by(|(one, _), (other, _)| one == other);
                stages.truncate(2);
                ops.extend(stages.first().map(|(name, _)| {
                    Op::Copy(Copy {
                        from: CopySource::Stage(name.clone()),
                        src: vec!["a".into()],
                        dst: "/b".into(),
                        exclude: Vec::new(),
                    })
                }));
                Spec { stages, from, ops }
            },
        )
    })
}

proptest! {
    #[test]
    fn reading_any_bytes_never_panics(bytes in vec(any::<u8>(), 0..200)) {
        fuzzing::parse(&bytes);
    }

    #[test]
    fn reading_anything_like_a_spec_never_panics(text in "[()\"\\\\#|; \n]*(from|run|shell|copy|build|[()\"\\\\#|; \na-z0-9])*") {
        fuzzing::parse(text.as_bytes());
        fuzzing::roundtrip(text.as_bytes());
    }

    #[test]
    fn an_s_expression_survives_printing(sexp in sexp()) {
        prop_assert_eq!(&Sexp::parse(&sexp.to_mach()).unwrap(), &sexp);
        prop_assert_eq!(&Sexp::parse(&sexp.to_hum()).unwrap(), &sexp);
    }

    #[test]
    fn a_spec_survives_printing(spec in spec()) {
        prop_assert_eq!(spec.check(), Ok(()));
        prop_assert_eq!(&Spec::parse(&spec.to_mach()).unwrap(), &spec);
        prop_assert_eq!(&Spec::parse(&spec.pretty()).unwrap(), &spec);
        fuzzing::parse(&spec.to_mach());
    }

    #[test]
    fn ids_are_hashes_of_what_they_describe(bytes in vec(any::<u8>(), 0..200)) {
        fuzzing::ids(&bytes);
    }
}
