//! Where networks run: `cpu`, `gpu` or `ndarray`, chosen at run time among what this build and this machine offer.

use burn::tensor::Device;

/// All names that a build can know.
pub const NAMES: &[&str] = &["cpu", "gpu", "ndarray"];

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    /// No such name.
    #[error("failed to open device `{name}`: there is no device of that name; available here: {available}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What this machine has.
        available: String,
    },
    /// The build lacks it.
    #[error(
        "failed to open device `{name}`: this build leaves it out (build with `--features {name}`); available here: {available}"
    )]
    NotBuilt {
        /// What was asked for.
        name: String,
        /// What this machine has.
        available: String,
    },
    /// The build has it, the machine does not.
    #[error("failed to open device `{name}`: {reason}; available here: {available}")]
    Missing {
        /// What was asked for.
        name: String,
        /// What the driver said.
        reason: String,
        /// What this machine has.
        available: String,
    },
}

/// Opens the device called `name`.
///
/// # Errors
/// When the name is unknown, or the build or the machine does not have it; the message lists what there is.
pub fn open(name: &str) -> Result<Device, DeviceError> {
    find(name).map_err(|absent| {
        let (name, available) = (name.to_owned(), available());
        match absent {
            Absent::Unknown => DeviceError::Unknown { name, available },
            Absent::NotBuilt => DeviceError::NotBuilt { name, available },
            Absent::Missing(reason) => DeviceError::Missing { name, reason, available },
        }
    })
}

/// The names of the devices of this build that work on this machine.
fn available() -> String {
    let names = NAMES.iter().filter(|name| find(name).is_ok());
    names.copied().collect::<Vec<_>>().join(", ")
}

/// Why a device is not there.
#[derive(Clone)]
enum Absent {
    Unknown,
    #[cfg_attr(all(feature = "gpu", feature = "ndarray"), expect(dead_code, reason = "this build leaves nothing out"))]
    NotBuilt,
    #[cfg_attr(not(feature = "gpu"), expect(dead_code, reason = "only the graphics card can be missing"))]
    Missing(String),
}

fn find(name: &str) -> Result<Device, Absent> {
    match name {
        "cpu" => Ok(Device::flex()),
        "gpu" => find_gpu(),
        "ndarray" => find_ndarray(),
        _ => Err(Absent::Unknown),
    }
}

#[cfg(feature = "gpu")]
fn find_gpu() -> Result<Device, Absent> {
    use std::sync::OnceLock;
    // The runtime can be initialised once a process; later calls reuse the device.
    static DEVICE: OnceLock<Result<Device, Absent>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        // A missing Vulkan loader can surface as a panic inside the driver layer; it must reach the user as an error.
        let init = std::panic::catch_unwind(|| Device::wgpu_options().init().map_err(|error| error.to_string()));
        let device = init.unwrap_or_else(|_| Err("the graphics driver could not be initialised".to_owned()));
        device.map_err(Absent::Missing)
    });
    device.clone()
}

#[cfg(not(feature = "gpu"))]
fn find_gpu() -> Result<Device, Absent> {
    Err(Absent::NotBuilt)
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "the only constructor of the cross-check backend")]
fn find_ndarray() -> Result<Device, Absent> {
    Ok(Device::ndarray())
}

#[cfg(not(feature = "ndarray"))]
fn find_ndarray() -> Result<Device, Absent> {
    Err(Absent::NotBuilt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_always_there_and_others_are_named_when_not() {
        assert!(open("cpu").is_ok());
        let error = open("tpu").unwrap_err().to_string();
        assert!(error.contains("`tpu`") && error.contains("cpu"), "{error}");
        #[cfg(not(feature = "gpu"))]
        assert!(open("gpu").unwrap_err().to_string().contains("--features gpu"));
        // What is listed is what can be opened, whichever name was asked for.
        let here: Vec<&str> = NAMES.iter().copied().filter(|name| open(name).is_ok()).collect();
        for name in NAMES.iter().filter(|name| !here.contains(name)).chain(&["tpu"]) {
            let error = open(name).unwrap_err().to_string();
            assert!(error.ends_with(&format!("available here: {}", here.join(", "))), "{error}");
        }
    }
}
