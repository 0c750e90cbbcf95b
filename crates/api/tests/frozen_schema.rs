//! The frozen schema stays frozen: every id, ordinal and name of the compiled schema is compared with the table below, which is
//! what deployed programs were built from.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use capnp::schema_capnp::{code_generator_request, field, node, type_};

const FILE_ID: u64 = 0x8378_b104_cef5_b2eb;

/// One line a type, `name id`; below it one line a field (`@ordinal name type`) or method (`@ordinal name (params) -> (results)`).
const FROZEN: &str = "\
AdditionalMetric cf9916b2e02f841b
  union metric@0 :Metric
  union notReported@1 :Void
Admin dd51f35540dac6ad
  @0 pools () -> (names :List(Text))
  @1 pool (name :Text) -> (pool :PoolAdmin)
  @2 addClient (id :Text) -> (cap :Submission)
  @3 removeClient (id :Text) -> (cap :Submission)
  @4 listClients () -> (clients :List(Text))
Custom a5a1f28b5d271349
  kind@0 :Text
  payload@1 :AnyPointer
DockerBuild b7cdf36259df55e5
  buildArgs@4 :List(Text)
  buildkit@7 :Bool
  dockerfile union contents@0 :Text
  dockerfile union path@5 :Text
  includeGit@8 :Bool
  pushPassword@3 :Text
  pushTarget@1 :Text
  pushUser@2 :Text
  squash@6 :Bool
Job ca66fd1f972efccc
  @0 log (start :Int64) -> (log :Data, next :Int64)
  @1 result () -> (output :Text)
  @2 cancel () -> ()
JobDescr e8a11e4cd6914f3e
  action union custom@6 :Custom
  action union dockerBuild@0 :DockerBuild
  action union obuilder@4 :OBuilder
  cacheHint@1 :Text
  commits@3 :List(Text)
  repository@2 :Text
  secrets@5 :List(Secret)
Metric a6d34960e6d0feab
  contentType@0 :Text
  data@1 :Text
MetricsSource d5f57e8b6e40f85a
  agent@0
  host@1
OBuilder 8b282bf65fdee6f3
  spec@0 :Text
PoolAdmin d906b771b4082451
  @0 show () -> (state :Text)
  @1 workers () -> (workers :List(WorkerInfo))
  @2 setActive (worker :Text, active :Bool, autoCreate :Bool) -> ()
  @3 worker (worker :Text) -> (worker :Worker)
  @4 update (worker :Text, progress :Progress) -> ()
  @5 setRate (id :Text, rate :Float64) -> ()
  @6 forget (worker :Text) -> ()
  @7 drain (worker :Text, progress :Progress) -> ()
Progress d7529e2702cd958a
  @0 report (status :Text) -> ()
Queue 817f986f80263aaf
  @0 pop (job :Job) -> (descr :JobDescr)
  @1 setActive (active :Bool) -> ()
Registration e098a12b91e35740
  @0 register (name :Text, worker :Worker, capacity :Int32) -> (queue :Queue)
Secret d3d0bc06b7e0ea84
  id@0 :Text
  value@1 :Text
Submission f4e8a768b32a7c42
  @0 submit (pool :Text, descr :JobDescr, urgent :Bool) -> (ticket :Ticket)
Ticket 9497c03b7ca5b27b
  @0 job () -> (job :Job)
  @1 cancel () -> ()
Worker e06eedcf95bf7905
  @0 metrics (source :MetricsSource) -> (contentType :Text, data :Text)
  @1 selfUpdate () -> ()
  @2 additionalMetric (source :Text) -> (metric :AdditionalMetric)
WorkerInfo 89d251d58984b1eb
  active@1 :Bool
  connected@2 :Bool
  name@0 :Text
";

#[test]
fn every_id_ordinal_and_name_is_as_deployed() {
    let bytes = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../schema/schema.cgr"
    ))
    .unwrap();
    let message =
        capnp::serialize::read_message(&bytes[..], capnp::message::ReaderOptions::new()).unwrap();
    let request: code_generator_request::Reader<'_> = message.get_root().unwrap();
    let nodes: BTreeMap<u64, node::Reader<'_>> = request
        .get_nodes()
        .unwrap()
        .iter()
        .map(|node| (node.get_id(), node))
        .collect();
    assert!(nodes.contains_key(&FILE_ID), "the schema's file id changed");
    let mut types = BTreeMap::new();
    for (&id, node) in &nodes {
        if belongs_to_the_file(&nodes, id)
            && let Some(lines) = describe(&nodes, node)
        {
            types.insert(
                short_name(node),
                format!("{} {id:x}\n{lines}", short_name(node)),
            );
        }
    }
    let found: String = types.into_values().collect();
    assert_eq!(found, FROZEN);
}

fn belongs_to_the_file(nodes: &BTreeMap<u64, node::Reader<'_>>, id: u64) -> bool {
    let mut at = id;
    while let Some(node) = nodes.get(&at) {
        if at == FILE_ID {
            return id != FILE_ID;
        }
        at = node.get_scope_id();
    }
    false
}

fn short_name(node: &node::Reader<'_>) -> String {
    let name = node.get_display_name().unwrap().to_str().unwrap();
    name.rsplit([':', '.']).next().unwrap().to_owned()
}

/// The lines of a type, or nothing for what is a part of another (groups, parameter lists).
fn describe(nodes: &BTreeMap<u64, node::Reader<'_>>, node: &node::Reader<'_>) -> Option<String> {
    let mut lines = Vec::new();
    match node.which().unwrap() {
        node::Struct(structure) => {
            // Parameter lists have no scope of their own.
            if structure.get_is_group() || node.get_scope_id() == 0 {
                return None;
            }
            fields(nodes, node, "", &mut lines);
            lines.sort();
        }
        node::Interface(interface) => {
            let mut methods: Vec<_> = interface
                .get_methods()
                .unwrap()
                .iter()
                .enumerate()
                .collect();
            methods.sort_by_key(|(_, method)| method.get_code_order());
            for (ordinal, method) in methods {
                let name = method.get_name().unwrap().to_str().unwrap();
                let params = parameters(nodes, method.get_param_struct_type());
                let results = parameters(nodes, method.get_result_struct_type());
                lines.push(format!("  @{ordinal} {name} ({params}) -> ({results})"));
            }
        }
        node::Enum(enumeration) => {
            for (ordinal, enumerant) in enumeration.get_enumerants().unwrap().iter().enumerate() {
                lines.push(format!(
                    "  {}@{ordinal}",
                    enumerant.get_name().unwrap().to_str().unwrap()
                ));
            }
        }
        _ => return None,
    }
    Some(lines.into_iter().fold(String::new(), |mut all, line| {
        writeln!(all, "{line}").unwrap();
        all
    }))
}

fn fields(
    nodes: &BTreeMap<u64, node::Reader<'_>>,
    node: &node::Reader<'_>,
    group: &str,
    lines: &mut Vec<String>,
) {
    let Ok(node::Struct(structure)) = node.which() else {
        panic!("not a struct")
    };
    for field in structure.get_fields().unwrap() {
        let name = field.get_name().unwrap().to_str().unwrap();
        let union = if field.get_discriminant_value() == field::NO_DISCRIMINANT {
            ""
        } else {
            "union "
        };
        match field.which().unwrap() {
            field::Slot(slot) => {
                let field::ordinal::Explicit(ordinal) = field.get_ordinal().which().unwrap() else {
                    panic!("{name} has no ordinal")
                };
                let ty = type_name(nodes, slot.get_type().unwrap());
                lines.push(format!("  {group}{union}{name}@{ordinal} :{ty}"));
            }
            field::Group(inner) => fields(
                nodes,
                &nodes[&inner.get_type_id()],
                &format!("{group}{name} "),
                lines,
            ),
        }
    }
}

fn parameters(nodes: &BTreeMap<u64, node::Reader<'_>>, id: u64) -> String {
    let Ok(node::Struct(structure)) = nodes[&id].which() else {
        panic!("parameters are a struct")
    };
    let mut fields: Vec<_> = structure.get_fields().unwrap().iter().collect();
    fields.sort_by_key(|field| field.get_code_order());
    let mut shown = Vec::new();
    for field in fields {
        let Ok(field::Slot(slot)) = field.which() else {
            panic!("a parameter is a slot")
        };
        let name = field.get_name().unwrap().to_str().unwrap();
        shown.push(format!(
            "{name} :{}",
            type_name(nodes, slot.get_type().unwrap())
        ));
    }
    shown.join(", ")
}

fn type_name(nodes: &BTreeMap<u64, node::Reader<'_>>, ty: type_::Reader<'_>) -> String {
    match ty.which().unwrap() {
        type_::Void(()) => "Void".into(),
        type_::Bool(()) => "Bool".into(),
        type_::Int32(()) => "Int32".into(),
        type_::Int64(()) => "Int64".into(),
        type_::Float64(()) => "Float64".into(),
        type_::Text(()) => "Text".into(),
        type_::Data(()) => "Data".into(),
        type_::List(list) => format!(
            "List({})",
            type_name(nodes, list.get_element_type().unwrap())
        ),
        type_::Enum(inner) => short_name(&nodes[&inner.get_type_id()]),
        type_::Struct(inner) => short_name(&nodes[&inner.get_type_id()]),
        type_::Interface(inner) => short_name(&nodes[&inner.get_type_id()]),
        type_::AnyPointer(_) => "AnyPointer".into(),
        _ => panic!("a type that the frozen schema does not use"),
    }
}
