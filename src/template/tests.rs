use serde_json::json;

use super::{Empty, Field, Member, Shape, Template, Value};

const CONFIG: Shape = Shape::Struct(&[
    Member { name: "User", key: "User", empty: Empty::Omitted, shape: Shape::Text },
    Member { name: "Env", key: "Env", empty: Empty::Omitted, shape: Shape::List(&Shape::Text) },
    Member { name: "Labels", key: "Labels", empty: Empty::Omitted, shape: Shape::Map(&Shape::Text) },
    Member { name: "Cmd", key: "Cmd", empty: Empty::Null, shape: Shape::List(&Shape::Text) },
    Member { name: "Tty", key: "Tty", empty: Empty::Null, shape: Shape::Bool },
    Member { name: "Timeout", key: "Timeout", empty: Empty::Omitted, shape: Shape::Int },
    Member { name: "Created", key: "Created", empty: Empty::Omitted, shape: Shape::Time },
    Member {
        name: "Health",
        key: "Health",
        empty: Empty::Omitted,
        shape: Shape::Pointer(&Shape::Struct(&[])),
    },
]);

fn data() -> Value {
    let config = json!({
        "User": "1001", "Env": ["A=1", "B=x y"], "Labels": {"b": "two", "a": "1"}, "Cmd": null, "Other": 7,
        "Created": "2026-11-22T18:51:08.350740346Z",
    });
    Value::Struct(vec![
        Field { name: "Name", key: "Name", empty: Empty::Null, value: Value::from("model") },
        Field {
            name: "Config",
            key: "config",
            empty: Empty::Null,
            value: Value::shaped(Some(&config), CONFIG),
        },
        Field { name: "Size", key: "Size", empty: Empty::Null, value: Value::Int(42) },
    ])
}

/// What Go makes of the same, by buildah 1.28's `inspect --format`; `json`, `join` and their like by docker's.
#[test]
fn templates_are_carried_out_as_go_does() {
    for (template, expected) in [
        ("plain", "plain"),
        ("{{.Name}}:{{.Size}}", "model:42"),
        ("{{.Config.Env}}", "[A=1 B=x y]"),
        ("{{.Config.Labels}}", "map[a:1 b:two]"),
        ("{{.Config.Labels.a}}{{.Config.Labels.nope}}", "1<no value>"),
        ("{{index .Config.Labels \"b\"}}|{{index .Config.Labels \"nope\"}}|", "two||"),
        ("{{index .Config.Env 1}}", "B=x y"),
        (
            "{{.Config}}",
            "{1001 [A=1 B=x y] map[a:1 b:two] [] false 0 2026-11-22 18:51:08.350740346 +0000 UTC <nil>}",
        ),
        (
            "{{json .Config}}",
            r#"{"User":"1001","Env":["A=1","B=x y"],"Labels":{"a":"1","b":"two"},"Cmd":null,"Tty":false,"Created":"2026-11-22T18:51:08.350740346Z"}"#,
        ),
        ("{{json .Name}}{{.Config.Labels | json}}", r#""model"{"a":"1","b":"two"}"#),
        ("{{.Config.Health}}{{.Config.Cmd}}", "<nil>[]"),
        ("{{range .Config.Env}}<{{.}}>{{end}}", "<A=1><B=x y>"),
        ("{{range $i, $e := .Config.Env}}{{if $i}}, {{end}}{{$e}}{{end}}", "A=1, B=x y"),
        ("{{range $e := .Config.Env}}{{$e}} {{$.Name}};{{end}}", "A=1 model;B=x y model;"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "a=1 b=two "),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        (
            "{{if .Config.User}}U{{else}}N{{end}}{{if .Config.Cmd}}C{{else if .Config.Tty}}T{{else}}E{{end}}",
            "UE",
        ),
        ("{{with .Config}}{{.User}}{{end}}{{with .Config.Cmd}}x{{else}}{{.Name}}{{end}}", "1001model"),
        ("{{len .Config.Env}}{{.Config.Env | len}}{{len .Name}}", "225"),
        ("{{join .Config.Env \",\"}}{{range split \"a,b\" \",\"}}[{{.}}]{{end}}", "A=1,B=x y[a][b]"),
        ("{{println \"a\" 1}}{{print \"a\" 1 2 \"b\"}}", "a 1\na1 2b"),
        (
            "{{printf \"%s-%d-%v-%q-%5d|%-6s|%x|%05d|%%|%t\" .Name 3 true .Name 7 \"a\" 255 42 false}}",
            "model-3-true-\"model\"-    7|a     |ff|00042|%|false",
        ),
        ("{{printf \"%v %s\" .Config.Env .Config.Labels}}", "[A=1 B=x y] map[a:1 b:two]"),
        (
            "{{eq .Name \"model\"}}{{ne .Size 1}}{{lt 1 2}}{{ge 1 2}}{{eq .Name \"a\" \"model\"}}",
            "truetruetruefalsetrue",
        ),
        ("{{and true .Name}} {{or \"\" \"z\"}} {{not true}} {{or .Config.Cmd .Name}}", "model z false model"),
        ("{{if and .Config.Cmd (index .Config.Cmd 0)}}x{{else}}y{{end}}", "y"),
        ("{{(index .Config.Env 0) | upper}}{{lower \"AB\"}}", "A=1ab"),
        ("{{slice .Name 1 3}}{{slice .Config.Env 1}}", "od[B=x y]"),
        ("{{$x := .Config}}{{$x.User}}{{$y := 1}}{{if true}}{{$y = 2}}{{end}}{{$y}}", "10012"),
        ("a  {{- .Name -}}  b {{/* said to nobody */}} c{{- /* nor this */ -}}  d", "amodelb  cd"),
        ("{{`raw \"text\"`}}{{\"}}\"}}", "raw \"text\"}}"),
        ("{{ .Name }}\\n", "model\\n"),
    ] {
        let rendered = Template::parse(template).and_then(|template| template.render(&data()));
        assert_eq!(rendered.map_err(|error| error.to_string()), Ok(expected.to_owned()), "{template}");
    }
}

#[test]
fn what_is_not_known_is_refused_with_its_place() {
    for (template, expected) in [
        ("{{.Nope}}", "template:1:3: there is no field .Nope here: there are Name, Config, Size"),
        ("a\n {{.Config.Env.Foo}}", "template:2:15: there is no field .Foo in a list"),
        ("{{.Name.Foo}}", "template:1:8: there is no field .Foo in a text"),
        (
            "{{nope .Name}}",
            "template:1:3: the function nope is not known: there are and, eq, ge, gt, index, join, json, le, len, lower, lt, ne, not, or, print, printf, println, slice, split, upper",
        ),
        ("{{.Name", "template:1:1: the action does not end: }} is missing"),
        ("{{}}", "template:1:1: there is nothing between {{ and }}"),
        ("{{if .Name}}x", "template:1:1: there is no {{end}} to this"),
        ("{{end}}", "template:1:1: {{end}} ends nothing here"),
        ("{{else}}", "template:1:1: {{else}} stands in no {{if}}, {{with}} or {{range}}"),
        ("{{if 1}}{{else}}{{else}}{{end}}", "template:1:17: a second {{else}}"),
        ("{{$x}}", "template:1:3: there is no variable $x"),
        ("{{range $i, $e := .Name}}{{end}}", "template:1:9: range cannot go through a text"),
        ("{{if .Name}}{{$x := 1}}{{end}}{{$x}}", "template:1:33: there is no variable $x"),
        ("{{index .Config.Env 7}}", "template:1:3: there is no item 7: the list has 2"),
        ("{{printf \"%d\" .Name}}", "template:1:3: printf: %d cannot show a text"),
        ("{{printf \"%s\"}}", "template:1:3: printf: there is no value for %s"),
        ("{{printf \"a\" 1}}", "template:1:3: printf: there are more values than the format has verbs"),
        ("{{printf \"%z\" 1}}", "template:1:3: printf: %z is not supported: use v, s, d, q, t or x"),
        ("{{len 3}}", "template:1:3: a number has no length"),
        ("{{eq .Name 3}}", "template:1:3: a text and a number cannot be compared"),
        ("{{slice .Name 3 9}}", "template:1:3: slice: 3 to 9 lies beyond the length 5"),
        ("{{.Name .Size}}", "template:1:3: this is no function, and takes no arguments"),
        ("{{(.Name}}", "template:1:4: a ) is missing"),
        ("{{.Name)}}", "template:1:8: this is one ) too many"),
        ("{{template \"x\"}}", "template:1:1: {{template}} is not supported"),
        ("{{\"x}}", "template:1:3: the text in \" does not end"),
        ("{{1.5}}", "template:1:3: \"1\" is no number that is known here: whole ones are"),
        ("{{.Name ?}}", "template:1:9: '?' has no meaning here"),
        ("{{.Name | }}", "template:1:1: a value is missing here"),
        ("{{/* x }}", "template:1:1: the comment does not end"),
        ("{{len}}", "template:1:3: len cannot be used with nothing"),
    ] {
        let rendered = Template::parse(template).and_then(|template| template.render(&data()));
        assert_eq!(rendered.map_err(|error| error.to_string()), Err(expected.to_owned()), "{template}");
    }
}

#[test]
fn the_texts_between_actions_can_be_changed() {
    let template = Template::parse("a {{\"b c\"}} {{if true}}d e{{end}}").unwrap();
    let changed = template.map_text(&|text| text.replace(' ', "\t"));
    assert_eq!(changed.render(&Value::Nil).unwrap(), "a\tb c\td\te");
}
