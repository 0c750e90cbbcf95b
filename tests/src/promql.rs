//! Just enough of PromQL to know which metrics an expression asks for.

use std::collections::BTreeSet;

/// Words that are no metrics where a metric could be.
const KEYWORDS: [&str; 6] = ["and", "or", "unless", "bool", "offset", "inf"];

/// Words before a list of labels in parentheses.
const BEFORE_LABELS: [&str; 6] = [
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

/// The names of all metrics in `expression`: identifiers that are neither functions, nor labels, nor keywords.
#[must_use]
pub fn metric_names(expression: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '{' => after(rest, '}'),
            '[' => after(rest, ']'),
            '"' => after(rest.get(1..).unwrap_or_default(), '"'),
            'a'..='z' | 'A'..='Z' | '_' | ':' => {
                let end = rest
                    .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
                    .unwrap_or(rest.len());
                let (word, follows) = rest.split_at(end);
                let follows = follows.trim_start();
                if BEFORE_LABELS.contains(&word) {
                    if follows.starts_with('(') {
                        after(follows, ')')
                    } else {
                        follows
                    }
                } else {
                    let is_function = follows.starts_with('(') || is_followed_by_labels(follows);
                    if !is_function && !KEYWORDS.contains(&word) {
                        names.insert(word.to_owned());
                    }
                    follows
                }
            }
            // A number, whose exponent or unit is no word.
            '0'..='9' => rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.'),
            other => rest.get(other.len_utf8()..).unwrap_or_default(),
        };
    }
    names
}

/// Whether what follows a word shows that it is an aggregation: `sum by (...) (...)`.
fn is_followed_by_labels(follows: &str) -> bool {
    ["by", "without"].iter().any(|word| {
        follows
            .strip_prefix(word)
            .is_some_and(|rest| rest.trim_start().starts_with('('))
    })
}

/// What comes after the next `end` that is not in a string.
fn after(text: &str, end: char) -> &str {
    let mut in_string = false;
    for (at, character) in text.char_indices() {
        if character == end && !in_string {
            return text.get(at + end.len_utf8()..).unwrap_or_default();
        }
        if character == '"' {
            in_string = !in_string;
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_from_functions_labels_and_keywords() {
        for (expression, expected) in [
            ("up", vec!["up"]),
            ("up{job=\"a}b\"} == 0", vec!["up"]),
            (
                "sum by (pool) (queue_length{priority=\"high\"}) > 0",
                vec!["queue_length"],
            ),
            (
                "rate(a_sum[5m]) / rate(a_count[$__rate_interval])",
                vec!["a_count", "a_sum"],
            ),
            (
                "sum(a) without (x) and on (pool) b == bool 1e3 unless c offset 5m",
                vec!["a", "b", "c"],
            ),
            ("a * on (x) group_left (y, z) b", vec!["a", "b"]),
            ("deriv(sum by (pool) (a)[1h:1m]) > 0", vec!["a"]),
        ] {
            let names = metric_names(expression);
            assert_eq!(names.iter().collect::<Vec<_>>(), expected, "{expression}");
        }
    }
}
