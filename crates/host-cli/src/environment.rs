//! Which Python environment the user means.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The version of the interpreter inside, as `3.11`. An environment of another one has modules that do not load here.
const EMBEDDED: &str = env!("EMBEDDED_PYTHON");

/// Where the library of the interpreter inside was when this program was built.
const EMBEDDED_LIB: &str = env!("EMBEDDED_PYTHON_LIB");

/// The directory of a virtual environment that belongs to a project.
const PROJECT_ENVIRONMENT: &str = ".venv";

/// The Python environment to run in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Environment {
    /// Its interpreter: not started, but what `sys.executable` says and what `sys.prefix` follows from.
    pub(crate) interpreter: PathBuf,
    /// How it was found, for `doctor`.
    pub(crate) origin: &'static str,
}

impl Environment {
    /// The one that `--python` chose, else the active one, else `.venv` beside the target or above it, else the Python that this
    /// program was built with.
    pub(crate) fn find(chosen: Option<&Path>, target: Option<&str>) -> Result<Self, String> {
        if let Some(path) = chosen {
            return Self::chosen(path);
        }
        if let Some(active) = env::var_os("VIRTUAL_ENV").filter(|value| !value.is_empty()) {
            return Self::of_directory(Path::new(&active), "active, from VIRTUAL_ENV");
        }
        if let Some(directory) = project_environment(target) {
            return Self::of_directory(&directory, "found beside the target or above it");
        }
        Ok(Self { interpreter: base_interpreter()?, origin: "the Python that remotemedia-host was built with" })
    }

    /// The one that another process of this program found, for its worker.
    pub(crate) fn of_parent(interpreter: &OsStr) -> Self {
        Self { interpreter: PathBuf::from(interpreter), origin: "that of the process that started this worker" }
    }

    /// What `--python` names: an environment, an interpreter, or the name of one on the search path.
    fn chosen(path: &Path) -> Result<Self, String> {
        const ORIGIN: &str = "chosen by --python";
        if path.is_dir() {
            return Self::of_directory(path, ORIGIN);
        }
        let found = if path.is_file() { Some(path.to_owned()) } else { on_search_path(path.as_os_str()) };
        let Some(interpreter) = found else {
            return Err(format!(
                "--python {}: no such interpreter or environment; pass the path of a virtual environment or of a \
                 Python {EMBEDDED} interpreter",
                path.display()
            ));
        };
        Self::of_interpreter(&interpreter, ORIGIN)
    }

    fn of_directory(directory: &Path, origin: &'static str) -> Result<Self, String> {
        let directory = absolute(directory);
        let interpreter =
            ["bin/python", "bin/python3"].iter().map(|name| directory.join(name)).find(|path| path.is_file());
        match interpreter {
            Some(interpreter) => Self::of_interpreter(&interpreter, origin),
            None => Err(format!(
                "{0} ({origin}) has no Python interpreter; recreate it with: python{EMBEDDED} -m venv {0}",
                directory.display(),
            )),
        }
    }

    fn of_interpreter(interpreter: &Path, origin: &'static str) -> Result<Self, String> {
        let environment = Self { interpreter: absolute(interpreter), origin };
        match environment.directory() {
            Some(directory) => check_environment(directory).map(|()| environment),
            None => Ok(Self { interpreter: check_interpreter(interpreter)?, origin }),
        }
    }

    /// The directory of the virtual environment that the interpreter belongs to, if it does to one.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.interpreter.ancestors().skip(1).take(2).find(|directory| is_environment(directory))
    }
}

fn is_environment(directory: &Path) -> bool {
    directory.join("pyvenv.cfg").is_file()
}

/// `.venv` in the directory of the target or the nearest one above it.
fn project_environment(target: Option<&str>) -> Option<PathBuf> {
    let beside = target.map(|target| absolute(&target_file(target))).filter(|file| file.is_file());
    let start = match beside {
        Some(file) => file.parent()?.to_owned(),
        None => env::current_dir().ok()?,
    };
    start.ancestors().map(|directory| directory.join(PROJECT_ENVIRONMENT)).find(|directory| is_environment(directory))
}

/// The file of `path/file.py:attr`, of a manifest, or something that is not a file for `module:attr`.
fn target_file(target: &str) -> PathBuf {
    PathBuf::from(target.rsplit_once(':').map_or(target, |(file, _)| file))
}

/// Refuses a virtual environment of another Python than the one inside.
fn check_environment(directory: &Path) -> Result<(), String> {
    let configuration = directory.join("pyvenv.cfg");
    let text = fs::read_to_string(&configuration)
        .map_err(|error| format!("{} cannot be read: {error}", configuration.display()))?;
    let version = text.lines().filter_map(|line| line.split_once('=')).find_map(|(key, value)| {
        let is_version = matches!(key.trim().to_ascii_lowercase().as_str(), "version" | "version_info");
        is_version.then(|| minor_version(value))
    });
    match version {
        Some(version) if version != EMBEDDED => Err(mismatch(directory, &version)),
        _ => Ok(()),
    }
}

/// Refuses an interpreter of another version, and returns the path that it reports: the named program may be a launcher.
fn check_interpreter(interpreter: &Path) -> Result<PathBuf, String> {
    let output = Command::new(interpreter)
        .args(["-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.executable)"])
        .output()
        .map_err(|error| format!("{} cannot be run: {error}", interpreter.display()))?;
    let output = String::from_utf8_lossy(&output.stdout);
    match output.lines().collect::<Vec<_>>()[..] {
        [version, executable] if version == EMBEDDED => Ok(PathBuf::from(executable)),
        [version, executable] => Err(mismatch(Path::new(executable), version)),
        _ => Err(format!("{} is not a Python interpreter", interpreter.display())),
    }
}

fn mismatch(place: &Path, version: &str) -> String {
    let interpreter = if place.is_dir() { place.join("bin/python") } else { place.to_owned() };
    format!(
        "{} has Python {version}, but the interpreter inside this program is Python {EMBEDDED}; use an environment made with \
         python{EMBEDDED} -m venv, or install the wheel there and run: {} -m remotemedia, which accepts the same arguments",
        place.display(),
        interpreter.display()
    )
}

/// `3.11` of `3.11.7` or `3.11.7.final.0`.
fn minor_version(text: &str) -> String {
    text.trim().split('.').take(2).collect::<Vec<_>>().join(".")
}

/// The interpreter whose library this program is linked with, or one of the same version.
fn base_interpreter() -> Result<PathBuf, String> {
    let name = format!("python{EMBEDDED}");
    let beside_library = Path::new(EMBEDDED_LIB).ancestors().map(|directory| directory.join("bin").join(&name));
    beside_library
        .take(4)
        .find(|interpreter| interpreter.is_file())
        .or_else(|| on_search_path(OsStr::new(&name)))
        .ok_or_else(|| {
            format!("Python {EMBEDDED} was not found on this machine; install it, or choose an environment with --python PATH")
        })
}

fn on_search_path(name: &OsStr) -> Option<PathBuf> {
    let is_bare = Path::new(name).components().count() == 1;
    let path = env::var_os("PATH").filter(|_| is_bare)?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| candidate.is_file())
}

/// The path from the root, links kept: a virtual environment is known by where its link lies.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_minor_version_is_read_from_every_spelling() {
        assert_eq!(minor_version(" 3.11.7"), "3.11");
        assert_eq!(minor_version("3.12.1.final.0\n"), "3.12");
    }

    #[test]
    fn the_file_of_a_target_ends_before_its_attribute() {
        assert_eq!(target_file("apps/voice.py:pipeline"), PathBuf::from("apps/voice.py"));
        assert_eq!(target_file("chain.yaml"), PathBuf::from("chain.yaml"));
    }
}
