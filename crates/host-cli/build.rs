//! Lets the program find its libpython, and collects the Python package that it carries inside, with its compiled code.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

/// What belongs to the package. A compiled extension that a development install left beside the sources does not.
const CARRIED: [&str; 5] = ["py", "pyi", "json", "yaml", "typed"];

fn main() -> io::Result<()> {
    pyo3_build_config::add_libpython_rpath_link_args();

    let python = pyo3_build_config::get();
    let version = python.target_abi().version();
    println!("cargo:rustc-env=EMBEDDED_PYTHON={version}");
    println!("cargo:rustc-env=EMBEDDED_PYTHON_LIB={}", python.lib_dir().unwrap_or_default());

    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts"));
    let package = manifest.join("../../python/remotemedia").canonicalize()?;
    let mut files = Vec::new();
    collect(&package, &mut files)?;
    files.sort();
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    let code = out.join("code");
    let magic = python.executable().and_then(|python| compile(python, &package, &files, &code));
    let mut table = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&package).unwrap_or(&file);
        let compiled = code.join(name);
        let compiled = if magic.is_some() && compiled.is_file() {
            format!("Some(include_bytes!({:?}))", compiled.to_string_lossy())
        } else {
            "None".to_owned()
        };
        let (name, path) = (name.to_string_lossy(), file.to_string_lossy());
        writeln!(table, "    ({name:?}, include_bytes!({path:?}), {compiled}),").map_err(io::Error::other)?;
    }
    table.push(']');
    fs::write(out.join("package.in"), table)?;
    fs::write(out.join("magic.in"), format!("{:?}", magic.unwrap_or_default()))
}

/// Compile the modules of the package into files below `code`. Returns the version of their code, or nothing without an
/// interpreter that runs here: then the program compiles them at each start.
fn compile(python: &str, package: &Path, files: &[PathBuf], code: &Path) -> Option<Vec<u8>> {
    println!("cargo:rerun-if-changed=compile.py");
    let script = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join("compile.py");
    let modules = files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "py"));
    let compiled = Command::new(python).arg("-I").arg(script).arg(package).arg(code).args(modules).output().ok()?;
    (compiled.status.success() && !compiled.stdout.is_empty()).then_some(compiled.stdout)
}

/// The carried files below `directory`.
///
/// Cargo looks at these files, not at their directories: Python writes its caches there. A new file is noticed with the change of
/// the file that imports it.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "__pycache__") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| CARRIED.iter().any(|carried| extension == *carried)) {
            println!("cargo:rerun-if-changed={}", path.display());
            files.push(path);
        }
    }
    Ok(())
}
