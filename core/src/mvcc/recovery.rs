//! From a folder to a store: makes the file if there is none, and derives everything else from its rows.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableError};

use super::backend::{Backend, Handle};
use super::batch::attach;
use super::error::StoreError;
use super::index::Index;
use super::leases::Leases;
use super::revision::{FIRST_REVISION, NEVER_COMPACTED, Revision};
use super::store::{
    FINISHED_COMPACTION_NAME, FORMAT, FORMAT_NAME, LEASES, META, Meta, OTHERS, Options, STATE_NAME, State, View,
    Writer, decode_lease, stored_bytes, write_fresh,
};
use crate::runtime::{Disk, File, Mutant, Planted};

/// What a store is made of.
pub(crate) struct Recovered<F> {
    pub(crate) db: Database,
    pub(crate) backend: Arc<Backend<F>>,
    pub(crate) view: Arc<View<F>>,
    pub(crate) index: Index,
    pub(crate) state: State,
    pub(crate) leases: Leases,
    pub(crate) meta: Meta,
    pub(crate) writer: Writer,
    pub(crate) row_bytes: u64,
}

/// Opens the file in a folder, as the last durable commit left it.
pub(crate) async fn recover<D: Disk>(disk: &D, dir: &str, options: Options) -> Result<Recovered<D::File>, StoreError> {
    let path = join(dir, "store.redb");
    let file = match disk.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(disk, dir, &path, options).await?;
            disk.open(&path)
        }
        opened => opened,
    };
    let file = file.map_err(|source| StoreError::Io { operation: "open", path: path.clone(), source })?;
    // Also of a file that was there: whoever made it may have died, or failed, before its name was durable.
    sync_names(disk, dir).await?;
    let backend = Backend::new(file, path);
    let db = open_database(&backend, options)?;
    // Opening repairs, which writes.
    backend.settle().await?;

    let view = View::open(&db, &backend)?;
    let Loaded { mut state, finished_compaction, meta } = load_meta(&db, &backend)?;
    let mut leases = load_leases(&db, &backend)?;
    let (mut index, row_bytes) = load_index(&view, &backend, &state, &mut leases, options.planted)?;
    // A compaction may have been cut short; its deletions are found again.
    let mut garbage: VecDeque<_> = index.compact(state.compact_revision).into();
    if options.planted.active(Mutant::RevisionFromRows) && state.compact_revision == state.revision {
        garbage.extend(index.compact_ends(state.revision));
        state.revision = index.kept_up_to(state.revision).last().map_or(FIRST_REVISION, |last| last.main);
        state.compact_revision = state.revision;
    }
    let writer = Writer { garbage, finished_compaction, dirty: false, unsettled: None };
    Ok(Recovered { db, backend, view, index, state, leases, meta, writer, row_bytes })
}

/// The leases, without their keys.
fn load_leases<F: File>(db: &Database, backend: &Backend<F>) -> Result<Leases, StoreError> {
    let mut leases = Leases::default();
    let read = (|| {
        let table = match db.begin_read()?.open_table(LEASES) {
            // The file is older than leases are.
            Err(TableError::TableDoesNotExist(_)) => return Ok(()),
            table => table?,
        };
        for entry in table.iter()? {
            let (id, lease) = entry?;
            leases.grant(id.value(), decode_lease(lease.value()));
        }
        Ok::<(), redb::Error>(())
    })();
    read.map_err(|error| backend.database_error(error))?;
    Ok(leases)
}

/// The index, and how many bytes the rows have. Gives the leases their keys.
fn load_index<F: File>(
    view: &View<F>,
    backend: &Backend<F>,
    state: &State,
    leases: &mut Leases,
    planted: Planted,
) -> Result<(Index, u64), StoreError> {
    let mut index = Index::new(planted);
    let mut row_bytes = 0;
    for row in view.rows.iter().map_err(|error| backend.database_error(error))? {
        let (key, row) = row.map_err(|error| backend.database_error(error))?;
        let revision = Revision::from_row_key(key.value())
            .filter(|revision| revision.main <= state.revision)
            .ok_or_else(|| backend.damaged(format_args!("there is a row of revision {:#x}", key.value())))?;
        row_bytes += stored_bytes(row.value());
        let row = view.decode(revision, Bytes::copy_from_slice(row.value()))?;
        if !index.restore(revision, &row) {
            return Err(backend.damaged(format_args!("the row of revision {revision} contradicts earlier ones")));
        }
        if !planted.active(Mutant::LeaseKeysForgotten) {
            attach(leases, &row);
        }
    }
    if let Some((key, lease)) = leases.orphan() {
        let key = key.escape_ascii();
        return Err(backend.damaged(format_args!("key \"{key}\" has lease {lease}, which does not exist")));
    }
    Ok((index, row_bytes))
}

/// Makes the file under another name first: under its own there is a whole store or none, whenever a crash comes.
async fn create<D: Disk>(disk: &D, dir: &str, path: &str, options: Options) -> Result<(), StoreError> {
    let new_path = format!("{path}.new");
    let io_error = |operation, path: &str| {
        let path = path.to_owned();
        move |source| StoreError::Io { operation, path, source }
    };
    if !dir.is_empty() {
        disk.create_dir(dir).map_err(io_error("make folder", dir))?;
    }
    match disk.remove(&new_path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error("remove", &new_path)(error)),
        _ => {}
    }
    let file = disk.create(&new_path).map_err(io_error("create", &new_path))?;
    let backend = Backend::new(file, new_path.clone());
    let db = open_database(&backend, options)?;
    let written = (|| {
        let mut txn = db.begin_write()?;
        txn.set_quick_repair(true);
        write_fresh(&txn, &State::fresh())?;
        txn.commit()?;
        Ok::<(), redb::Error>(())
    })();
    written.map_err(|error| backend.database_error(error))?;
    backend.settle().await?;
    backend.fail("the store is closed");
    drop(db);

    disk.rename(&new_path, path).map_err(io_error("rename", &new_path))
}

/// Makes the file's name durable, and those of the folders that it is in.
async fn sync_names<D: Disk>(disk: &D, dir: &str) -> Result<(), StoreError> {
    let mut dir = dir;
    loop {
        disk.sync_dir(dir).await.map_err(|source| StoreError::Io {
            operation: "sync folder",
            path: dir.to_owned(),
            source,
        })?;
        if dir.is_empty() {
            return Ok(());
        }
        dir = dir.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
}

fn open_database<F: File>(backend: &Arc<Backend<F>>, options: Options) -> Result<Database, StoreError> {
    backend.trim()?;
    Database::builder()
        .set_cache_size(options.cache_bytes)
        .set_check_integrity_on_open(options.verify)
        .create_with_backend(Handle(backend.clone()))
        .map_err(|error| backend.database_error(error))
}

struct Loaded {
    state: State,
    finished_compaction: i64,
    meta: Meta,
}

fn load_meta<F: File>(db: &Database, backend: &Backend<F>) -> Result<Loaded, StoreError> {
    let mut others = BTreeMap::new();
    let mut store = BTreeMap::new();
    let read = (|| {
        for entry in db.begin_read()?.open_table(META)?.iter()? {
            let (name, value) = entry?;
            let value = Bytes::copy_from_slice(value.value());
            match name.value().strip_prefix(OTHERS) {
                Some(name) => others.insert(name.to_owned(), value),
                None => store.insert(name.value().to_owned(), value),
            };
        }
        Ok::<(), redb::Error>(())
    })();
    read.map_err(|error| backend.database_error(error))?;

    if store.get(FORMAT_NAME).is_none_or(|format| &format[..] != FORMAT) {
        return Err(backend.damaged(format_args!("it is not of format {}", FORMAT.escape_ascii())));
    }
    let state = store.get(STATE_NAME).and_then(|state| State::decode(state));
    let finished_compaction = match store.get(FINISHED_COMPACTION_NAME) {
        Some(finished) => finished.as_ref().try_into().ok().map(i64::from_le_bytes),
        None => Some(NEVER_COMPACTED),
    };
    let (Some(state), Some(finished_compaction)) = (state, finished_compaction) else {
        return Err(backend.damaged("its state is unreadable"));
    };
    Ok(Loaded { state, finished_compaction, meta: Arc::new(others) })
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}
