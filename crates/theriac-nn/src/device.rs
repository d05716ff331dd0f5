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

/// The devices of this build that work on this machine, with a word on each.
pub fn available() -> Vec<(&'static str, String)> {
    NAMES.iter().filter_map(|&name| open(name).ok().map(|_| (name, describe(name)))).collect()
}

fn describe(name: &str) -> String {
    match name {
        "cpu" => "Burn Flex, on the processor".to_owned(),
        "gpu" => "wgpu, on the graphics card".to_owned(),
        _ => "burn-ndarray, on the processor, for cross-checks".to_owned(),
    }
}

/// Opens the device called `name`.
///
/// # Errors
/// When the name is unknown, or the build or the machine does not have it; the message lists what there is.
pub fn open(name: &str) -> Result<Device, DeviceError> {
    match name {
        "cpu" => Ok(Device::flex()),
        "gpu" => open_gpu(name),
        "ndarray" => open_ndarray(name),
        _ => Err(DeviceError::Unknown { name: name.to_owned(), available: others(name) }),
    }
}

fn others(asked: &str) -> String {
    let names = NAMES.iter().filter(|&&name| name != asked && open(name).is_ok());
    names.copied().collect::<Vec<_>>().join(", ")
}

#[cfg(feature = "gpu")]
fn open_gpu(name: &str) -> Result<Device, DeviceError> {
    use std::sync::OnceLock;
    // The runtime can be initialised once a process; later calls reuse the device.
    static DEVICE: OnceLock<Result<Device, String>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        // A missing Vulkan loader can surface as a panic inside the driver layer; it must reach the user as an error.
        let init = std::panic::catch_unwind(|| Device::wgpu_options().init().map_err(|error| error.to_string()));
        init.unwrap_or_else(|_| Err("the graphics driver could not be initialised".to_owned()))
    });
    let missing = |reason: &String| DeviceError::Missing {
        name: name.to_owned(),
        reason: reason.clone(),
        available: "cpu".to_owned(),
    };
    device.clone().map_err(|reason| missing(&reason))
}

#[cfg(not(feature = "gpu"))]
fn open_gpu(name: &str) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { name: name.to_owned(), available: "cpu".to_owned() })
}

#[cfg(feature = "ndarray")]
#[expect(deprecated, reason = "the only constructor of the cross-check backend")]
fn open_ndarray(_name: &str) -> Result<Device, DeviceError> {
    Ok(Device::ndarray())
}

#[cfg(not(feature = "ndarray"))]
fn open_ndarray(name: &str) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { name: name.to_owned(), available: "cpu".to_owned() })
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
        assert_eq!(available()[0].0, "cpu");
    }
}
