//! Lists of images: they share their names with images, and nothing is lost where several processes change one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use crossdock_storage::{
    Descriptor, EntryDetails, EntryPlatform, Error, Hasher, ListEntry, ListedPlace, ManifestEntry, MediaType,
    Platform, RecordStore,
};

fn entry(name: &str, platform: &str) -> ListEntry {
    let platform: Platform = platform.parse().unwrap();
    let manifest = Descriptor::new(MediaType::ImageManifest, 7, Hasher::digest(name.as_bytes()));
    let details = EntryDetails { platform: Some(EntryPlatform::from(&platform)), ..EntryDetails::default() };
    ListEntry { manifest: ManifestEntry::new(&manifest, details), place: ListedPlace::Record }
}

#[test]
fn a_list_is_found_by_its_name_until_it_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let store = RecordStore::new(root.path());
    let list = store.create_list("localhost/l:1", false).unwrap();
    assert!(matches!(store.create_list("localhost/l:1", false), Err(Error::Unusable(_))));
    assert_eq!(store.create_list("localhost/l:1", true).unwrap(), list);
    assert_ne!(store.create_list("localhost/other:1", false).unwrap().id, list.id);
    store.tag(&list.id, "localhost/l:2").unwrap();
    assert_eq!(store.named("localhost/l:2").unwrap(), Some(list.id.clone()));

    let change = store.change_list(&list.id, |list| {
        list.add(entry("a", "linux/amd64"));
        Err::<(), _>(Error::Unusable("no".to_owned()))
    });
    assert!(change.is_err());
    assert_eq!(store.image_list(&list.id).unwrap().unwrap(), list, "what failed has changed nothing");

    let records = store.list().unwrap();
    assert_eq!(records.lists.len(), 2);
    assert_eq!(records.names_of(&list.id).collect::<Vec<_>>(), ["localhost/l:1", "localhost/l:2"]);
    assert!(store.remove(&list.id).unwrap());
    assert_eq!(store.named("localhost/l:1").unwrap(), None);
    assert_eq!(store.image_list(&list.id).unwrap(), None);
    assert!(store.tag(&list.id, "localhost/l:3").is_err());
}

#[test]
fn an_image_is_on_a_list_once_and_a_new_one_takes_its_platforms_place() {
    let root = tempfile::tempdir().unwrap();
    let store = RecordStore::new(root.path());
    let list = store.put_list(vec![entry("a", "linux/amd64"), entry("b", "linux/arm64")], ["l"]).unwrap();
    let names = |list: &crossdock_storage::ImageList| -> Vec<_> {
        list.entries.iter().map(|entry| entry.manifest.digest.clone()).collect()
    };
    let of = |name: &str| Hasher::digest(name.as_bytes());
    let changed = store
        .change_list(&list.id, |list| {
            list.add(entry("a", "linux/amd64"));
            list.add(entry("other", "linux/arm64"));
            list.renew(entry("new", "linux/arm64/v8"));
            Ok(list.clone())
        })
        .unwrap();
    assert_eq!(names(&changed), [of("a"), of("new")]);
    assert_eq!(store.image_list(&list.id).unwrap().unwrap(), changed);
    let chosen = changed.select(&"linux/arm64".parse().unwrap(), "x").unwrap();
    assert_eq!(chosen.manifest.digest, of("new"));
    assert!(changed.select(&"linux/s390x".parse().unwrap(), "x").is_err());
}

#[test]
fn threads_that_add_at_the_same_time_lose_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = RecordStore::new(root.path());
    let list = store.put_list(Vec::new(), ["l"]).unwrap();
    std::thread::scope(|scope| {
        for worker in 0..8 {
            let (store, id) = (&store, &list.id);
            scope.spawn(move || {
                for round in 0..8 {
                    let entry = entry(&format!("{worker} {round}"), "linux/amd64");
                    store
                        .change_list(id, |list| {
                            list.add(entry);
                            Ok(())
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(store.image_list(&list.id).unwrap().unwrap().entries.len(), 64);
}

#[test]
fn a_damaged_list_stands_in_nobodys_way() {
    let root = tempfile::tempdir().unwrap();
    let store = RecordStore::new(root.path());
    let good = store.put_list(Vec::new(), ["good"]).unwrap();
    let bad = store.put_list(Vec::new(), ["bad"]).unwrap();
    let path = root.path().join(format!("lists/{}.json", bad.id.digest()));
    fs::write(&path, "{").unwrap();
    let records = store.list().unwrap();
    assert_eq!(records.lists, [good]);
    assert_eq!(records.damaged[0].0, path);
    let text = store.image_list(&bad.id).unwrap_err().to_string();
    assert!(text.contains(&path.display().to_string()), "{text}");
    assert!(store.remove(&bad.id).unwrap());
}
