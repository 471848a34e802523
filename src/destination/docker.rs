//! Docker's words for where an image goes, `type=TYPE,KEY=VALUE,...` as `docker buildx build --output` takes them.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use crossdock_registry::Reference;
use crossdock_storage::ArchiveKind;

use super::{Destination, Output, stdout_path};

/// What is written as `KEY=VALUE` beside the type, with what to do instead where it cannot be carried out so.
const ELSEWHERE: [(&str, &str); 10] = [
    ("compression", "use --compression-format"),
    ("compression-level", "use --compression-level"),
    ("force-compression", "layers of a base go as they are; use --compression-format for those that are new"),
    ("oci-mediatypes", "use --format oci or --format docker"),
    ("push-by-digest", "a push moves a tag: give the image one, and use the digest that --digestfile writes"),
    ("registry.insecure", "use --tls-verify=false"),
    ("context", "there is no Docker here: pipe the archive into `docker --context NAME load`"),
    ("attestation-prefix", "attestations are not made"),
    ("mode", "attestations are not made"),
    ("annotation", "use --annotation KEY=VALUE"),
];

/// What concerns a store that is not here, and changes nothing of the image.
const WITHOUT_EFFECT: [&str; 6] =
    ["unpack", "store", "dangling-name-prefix", "name-canonical", "rewrite-timestamp", "buildinfo"];

#[derive(Default)]
struct Attributes {
    kind: String,
    dest: Option<String>,
    names: Vec<String>,
    push: bool,
    tar: Option<bool>,
}

/// Reads an output of Docker's; `names` are those that --tag gives.
///
/// # Errors
/// What is not carried out, with what to do instead.
pub(super) fn parse(text: &str, names: &[String]) -> Result<Output> {
    let Attributes { kind, dest, names: own, push, tar } = attributes(text)?;
    let names = match (own.as_slice(), names) {
        ([], names) => names.to_vec(),
        (own, []) => own.to_vec(),
        (own, names) if own == names => own.to_vec(),
        (own, _) => bail!("{text}: name={} and --tag are two names: give one of them", own.join(",")),
    };
    match kind.as_str() {
        "local" | "tar" => bail!(
            "{text}: images are not unpacked here; write -o oci:DIR and unpack it with `umoci unpack --image DIR`, or \
             name an image: -o type=oci,dest=FILE"
        ),
        "image" | "registry" => {
            if dest.is_some() {
                bail!("{text}: an image of this type has no dest: write type=oci,dest=FILE, or name=NAME");
            }
            Ok(if push || kind == "registry" { Output::Push(names) } else { Output::Remember(names) })
        }
        "cacheonly" => Ok(Output::Remember(names)),
        "oci" | "oci-archive" => {
            let tags = names.iter().map(|name| tag(name)).collect::<Result<Vec<_>>>()?;
            if tar == Some(false) {
                let Some(directory) = dest.filter(|dest| dest != "-") else {
                    bail!("{text}: a layout is a directory: name it with dest=DIR");
                };
                if tags.len() > 1 {
                    bail!("{text}: an image has one name in a layout: give one --tag, or use --output twice");
                }
                let (directory, reference) = (PathBuf::from(directory), tags.into_iter().next());
                return Ok(Output::OnDisk(Destination::Layout { directory, reference }));
            }
            Ok(Output::OnDisk(Destination::Archive { path: path(dest), kind: ArchiveKind::Oci, names: tags }))
        }
        "docker" | "docker-archive" => {
            if tar == Some(false) {
                bail!("{text}: a docker-archive is a file: leave tar=false out, or write type=oci,tar=false");
            }
            let names = super::spelled_out(names.iter())?;
            Ok(Output::OnDisk(Destination::Archive { path: path(dest), kind: ArchiveKind::Docker, names }))
        }
        "" => bail!("{text}: there is no type: write type=oci, type=docker, type=image or type=registry"),
        other => bail!(
            "{text}: the type {other} is not known; there are oci, docker, image and registry, and oci:DIR[:REF], \
             oci-archive:FILE[:REF], docker-archive:FILE[:NAME[:TAG]] and dir:DIR"
        ),
    }
}

/// The file, or standard output where none is named.
fn path(dest: Option<String>) -> PathBuf {
    match dest {
        Some(dest) if dest != "-" => PathBuf::from(dest),
        _ => stdout_path(),
    }
}

/// The name that BuildKit gives an image in an archive: its tag.
fn tag(name: &str) -> Result<String> {
    let reference: Reference = name.parse().with_context(|| format!("the name {name}"))?;
    Ok(reference.tag().map_or_else(|| "latest".to_owned(), ToString::to_string))
}

fn attributes(text: &str) -> Result<Attributes> {
    let mut read = Attributes::default();
    for field in fields(text)? {
        let Some((key, value)) = field.split_once('=') else {
            bail!("{text}: {field:?} is no KEY=VALUE");
        };
        let is_true = || match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => bail!("{text}: {key}={value}: write true or false"),
        };
        let known = key.split(['.', '[']).next().unwrap_or(key);
        match key {
            "type" => read.kind = value.to_owned(),
            "dest" if value.is_empty() => bail!("{text}: dest names no file"),
            "dest" => read.dest = Some(value.to_owned()),
            "name" => read.names.extend(value.split(',').map(|name| name.trim().to_owned())),
            "push" => read.push = is_true()?,
            "tar" => read.tar = Some(is_true()?),
            "oci-mediatypes" if is_true()? => {}
            "push-by-digest" | "force-compression" | "registry.insecure" if !is_true()? => {}
            key if WITHOUT_EFFECT.contains(&key) => {
                tracing::debug!("--output {text}: {key} is without effect here");
            }
            _ => match ELSEWHERE.iter().find(|(name, _)| *name == key || *name == known) {
                Some((_, instead)) => bail!("{text}: {key} is not taken here; {instead}"),
                None => bail!(
                    "{text}: {key} is not known; type, dest, name, push and tar are, and options of the command"
                ),
            },
        }
    }
    Ok(read)
}

/// The fields of a line of comma-separated values; one in double quotes may have commas in it.
fn fields(text: &str) -> Result<Vec<String>> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for c in text.chars() {
        match (c, fields.last_mut()) {
            ('"', _) => quoted = !quoted,
            (',', _) if !quoted => fields.push(String::new()),
            (c, Some(field)) => field.push(c),
            (_, None) => {}
        }
    }
    if quoted {
        bail!("{text}: a quote is not closed");
    }
    Ok(fields.into_iter().filter(|field| !field.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, names: &[&str]) -> String {
        let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
        match parse(text, &names) {
            Ok(Output::OnDisk(destination)) => match destination {
                Destination::Layout { directory, reference } => {
                    format!("layout {} {}", directory.display(), reference.unwrap_or_default())
                }
                Destination::Archive { path, kind, names } => {
                    format!("{kind:?} {} {}", path.display(), names.join(" "))
                }
                other => format!("{other:?}"),
            },
            Ok(Output::Push(names)) => format!("push {}", names.join(" ")),
            Ok(Output::Remember(names)) => format!("remember {}", names.join(" ")),
            Err(error) => format!("error {error:#}"),
        }
    }

    #[test]
    fn dockers_outputs_have_their_like_here() {
        let stdout = stdout_path().display().to_string();
        for (text, names, expected) in [
            ("type=oci,dest=x.tar", &["r.example/m:v1"][..], "Oci x.tar v1".to_owned()),
            ("type=oci,dest=x.tar", &[], "Oci x.tar ".to_owned()),
            ("type=oci", &[], format!("Oci {stdout} ")),
            ("type=oci,dest=-", &[], format!("Oci {stdout} ")),
            ("type=oci,dest=d,tar=false", &["m"], "layout d latest".to_owned()),
            ("type=oci-archive,dest=x", &["a:1", "b:2"], "Oci x 1 2".to_owned()),
            ("dest=x,type=docker", &["r.example/m:v1"], "Docker x r.example/m:v1".to_owned()),
            ("type=docker", &[], format!("Docker {stdout} ")),
            (
                "type=docker,dest=x,name=r.example/a:1",
                &["r.example/a:1"],
                "Docker x r.example/a:1".to_owned(),
            ),
            (
                "type=image,\"name=r.example/a:1,r.example/b:2\",push=true",
                &[],
                "push r.example/a:1 r.example/b:2".to_owned(),
            ),
            ("type=image,push=false,unpack=true", &["m"], "remember m".to_owned()),
            ("type=registry", &["r.example/m:v1"], "push r.example/m:v1".to_owned()),
            (
                "type=image,push=true,oci-mediatypes=true,push-by-digest=false",
                &["r.example/m"],
                "push r.example/m".to_owned(),
            ),
            ("type=cacheonly", &[], "remember ".to_owned()),
        ] {
            assert_eq!(shown(text, names), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_carried_out_says_what_to_do() {
        for (text, names, part) in [
            ("type=local,dest=out", &[][..], "umoci unpack"),
            ("type=tar,dest=-", &[], "umoci unpack"),
            ("type=oci,dest=x,compression=zstd", &[], "--compression-format"),
            ("type=image,annotation.a=b", &[], "--annotation"),
            ("type=image,annotation-index.a=b", &[], "annotation-index.a is not known"),
            ("type=image,push-by-digest=true", &[], "--digestfile"),
            ("type=image,dest=x", &[], "type=oci,dest=FILE"),
            ("type=oci,tar=false", &[], "dest=DIR"),
            ("type=docker,dest=x,name=a", &["b"], "two names"),
            ("type=oci,dest=", &[], "names no file"),
            ("type=oci,push=perhaps", &[], "write true or false"),
            ("type=oci,x", &[], "no KEY=VALUE"),
            ("type=oci,\"name=a", &[], "not closed"),
            ("type=nothing", &[], "the type nothing is not known"),
        ] {
            let shown = shown(text, names);
            assert!(shown.starts_with("error ") && shown.contains(part), "{text}: {shown}");
        }
    }
}
