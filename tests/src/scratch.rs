//! A directory of a story's own, removed at its end.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::TempDir;

/// How much of each log file a failure shows, in lines.
const SHOWN_LINES: usize = 60;

/// A temporary directory with a place for logs.
pub struct Scratch {
    directory: TempDir,
}

impl Scratch {
    /// Makes a fresh one below the system's temporary directory.
    ///
    /// # Errors
    ///
    /// When that directory cannot be written.
    pub fn new() -> Result<Self> {
        // Paths of Unix sockets are limited to some hundred bytes: the name is kept short.
        let directory = tempfile::Builder::new().prefix("oc-").tempdir()?;
        fs::create_dir(directory.path().join("logs"))?;
        Ok(Self { directory })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The path of `name` in it.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where the program called `name` writes its output.
    #[must_use]
    pub fn log_file(&self, name: &str) -> PathBuf {
        self.join("logs").join(format!("{name}.log"))
    }

    /// Makes an empty directory `name` in it.
    ///
    /// # Errors
    ///
    /// When it exists already.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.join(name);
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// Writes a file `name` in it.
    ///
    /// # Errors
    ///
    /// When the disk is full, or its directory does not exist.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.join(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    /// The end of everything that was logged, for a person who wants to know why a story failed.
    #[must_use]
    pub fn logs(&self) -> String {
        let Ok(entries) = fs::read_dir(self.join("logs")) else {
            return String::new();
        };
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.sort();
        let mut all = String::new();
        for file in files {
            let bytes = fs::read(&file).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines
                .get(lines.len().saturating_sub(SHOWN_LINES)..)
                .unwrap_or_default()
                .join("\n");
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            all.push_str(&format!("=== end of {name}\n{tail}\n"));
        }
        all
    }
}
