//! The functions of Go's templates that are known here, and those that docker and podman add.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::value::Value;

/// `and` and `or` are carried out by the evaluator: they look at no more of their arguments than they must.
const NAMES: [&str; 20] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "print",
    "printf", "println", "slice", "split", "upper",
];

/// # Errors
/// That there is no function of this name.
pub(super) fn known(name: &str) -> Result<(), String> {
    if NAMES.contains(&name) {
        return Ok(());
    }
    Err(format!("the function {name} is not known: there are {}", NAMES.join(", ")))
}

/// Calls a function.
///
/// # Errors
/// What is wrong with its arguments.
pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, String> {
    match (name, args) {
        ("not", [value]) => Ok(Value::Bool(!value.is_true())),
        ("len", [value]) => len(value),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("slice", [value, bounds @ ..]) => slice(value, bounds),
        ("json", [value]) => serde_json::to_string(value).map(Value::Text).map_err(|error| error.to_string()),
        ("join", [Value::List(items), Value::Text(separator)]) => {
            let items: Vec<_> = items.iter().map(ToString::to_string).collect();
            Ok(Value::Text(items.join(separator)))
        }
        ("split", [Value::Text(text), Value::Text(separator)]) if !separator.is_empty() => {
            Ok(Value::List(text.split(separator.as_str()).map(Value::from).collect()))
        }
        ("lower", [Value::Text(text)]) => Ok(Value::Text(text.to_lowercase())),
        ("upper", [Value::Text(text)]) => Ok(Value::Text(text.to_uppercase())),
        ("print", args) => Ok(Value::Text(print(args))),
        ("println", args) => {
            let args: Vec<_> = args.iter().map(ToString::to_string).collect();
            Ok(Value::Text(format!("{}\n", args.join(" "))))
        }
        ("printf", [Value::Text(format), args @ ..]) => printf(format, args).map(Value::Text),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            let mut equal = false;
            for other in others {
                equal |= compare(first, other)? == Ordering::Equal;
            }
            Ok(Value::Bool(equal))
        }
        ("ne", [a, b]) => Ok(Value::Bool(compare(a, b)?.is_ne())),
        ("lt", [a, b]) => Ok(Value::Bool(compare(a, b)?.is_lt())),
        ("le", [a, b]) => Ok(Value::Bool(compare(a, b)?.is_le())),
        ("gt", [a, b]) => Ok(Value::Bool(compare(a, b)?.is_gt())),
        ("ge", [a, b]) => Ok(Value::Bool(compare(a, b)?.is_ge())),
        (name, args) => {
            let kinds: Vec<_> = args.iter().map(Value::kind).collect();
            let kinds = if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") };
            Err(format!("{name} cannot be used with {kinds}"))
        }
    }
}

fn len(value: &Value) -> Result<Value, String> {
    let len = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(items) => items.len(),
        other => return Err(format!("{} has no length", other.kind())),
    };
    i64::try_from(len).map(Value::Int).map_err(|error| error.to_string())
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::List(items), Value::Int(at)) => usize::try_from(*at)
            .ok()
            .and_then(|at| items.get(at))
            .cloned()
            .ok_or_else(|| format!("there is no item {at}: the list has {}", items.len())),
        // What a map of texts does not have is an empty text.
        (Value::Map(items), Value::Text(key)) => {
            Ok(items.get(key).cloned().unwrap_or_else(|| Value::Text(String::new())))
        }
        (value, key) => Err(format!("index cannot look up {} in {}", key.kind(), value.kind())),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let mut places = Vec::new();
    for bound in bounds {
        match bound {
            Value::Int(at) => places.push(usize::try_from(*at).map_err(|_| "slice: a bound is below 0")?),
            other => return Err(format!("slice cannot be used with {}", other.kind())),
        }
    }
    let len = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        other => return Err(format!("slice cannot be used with {}", other.kind())),
    };
    let (from, to) = match places.as_slice() {
        [] => (0, len),
        [from] => (*from, len),
        [from, to] => (*from, *to),
        _ => return Err("slice takes two bounds at most".to_owned()),
    };
    let beyond = || format!("slice: {from} to {to} lies beyond the length {len}");
    match value {
        Value::Text(text) => text.get(from..to).map(Value::from).ok_or_else(beyond),
        Value::List(items) => items.get(from..to).map(|items| Value::List(items.to_vec())).ok_or_else(beyond),
        _ => Err(beyond()),
    }
}

/// Go's Sprint: a space between two operands that are both no texts.
fn print(args: &[Value]) -> String {
    let mut text = String::new();
    for (at, arg) in args.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::Text(_));
        if at > 0 && !is_text(arg) && !is_text(&args[at - 1]) {
            text.push(' ');
        }
        text.push_str(&arg.to_string());
    }
    text
}

/// Go's Sprintf with the verbs s, v, d, q, t and x, a width, `-` and `0`.
fn printf(format: &str, args: &[Value]) -> Result<String, String> {
    let mut text = String::new();
    let mut args = args.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let flags = rest.len() - rest.trim_start_matches(['-', '0']).len();
        let (flags, after) = rest.split_at(flags);
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let (width, after) = after.split_at(digits);
        let verb = after.chars().next().ok_or("printf: the format ends behind a %")?;
        rest = &after[verb.len_utf8()..];
        if verb == '%' {
            text.push('%');
            continue;
        }
        let arg = args.next().ok_or_else(|| format!("printf: there is no value for %{verb}"))?;
        let shown = match (verb, arg) {
            ('v', value) => value.to_string(),
            (
                's',
                value @ (Value::Text(_) | Value::List(_) | Value::Map(_) | Value::Struct(_) | Value::Time(_)),
            ) => value.to_string(),
            ('d', Value::Int(number)) => number.to_string(),
            ('x', Value::Int(number)) => format!("{number:x}"),
            ('t', Value::Bool(value)) => value.to_string(),
            ('q', Value::Text(value)) => format!("{value:?}"),
            ('q', Value::List(items)) => {
                let items: Vec<_> = items.iter().map(|item| format!("{:?}", item.to_string())).collect();
                format!("[{}]", items.join(" "))
            }
            (verb @ ('s' | 'd' | 'x' | 't' | 'q'), value) => {
                return Err(format!("printf: %{verb} cannot show {}", value.kind()));
            }
            (verb, _) => return Err(format!("printf: %{verb} is not supported: use v, s, d, q, t or x")),
        };
        let width = width.parse().unwrap_or(0);
        // Writing to a String does not fail.
        let _ = if flags.contains('-') {
            write!(text, "{shown:<width$}")
        } else if flags.contains('0') {
            write!(text, "{shown:0>width$}")
        } else {
            write!(text, "{shown:>width$}")
        };
    }
    if args.next().is_some() {
        return Err("printf: there are more values than the format has verbs".to_owned());
    }
    text.push_str(rest);
    Ok(text)
}

fn compare(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Ok(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Ok(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (a, b) => Err(format!("{} and {} cannot be compared", a.kind(), b.kind())),
    }
}
