//! What the errors of the libraries mean to a shell: exit code and next step.

use akida_converter::ConvertError;
use akida_converter::import::ImportError;
use akida_converter::onnx::OnnxError;
use akida_hal::ErrorKind;
use akida_runtime::edge::EdgeError;
use akida_runtime::hybrid::HybridError;
use akida_runtime::mapping::MapError;
use akida_runtime::model::{FileError, FormatError};
use akida_runtime::session::SessionError;

use crate::exit::{Exit, Failure, chain};

const REPORT: &str = "this is a mistake in this software: please report it with RUST_LOG=debug output";

impl From<akida_hal::Error> for Failure {
    fn from(error: akida_hal::Error) -> Self {
        use akida_hal::node::Error as Node;
        use akida_hal::vfio::Error as Vfio;
        let exit = match (&error, error.kind()) {
            (akida_hal::Error::Vfio(Vfio::NoSuchFunction { .. }), _) => {
                return Self::new(Exit::Unavailable, chain(&error), "akida-run --list shows the boards there are");
            }
            (akida_hal::Error::Vfio(vfio), ErrorKind::Host) => match vfio {
                Vfio::Permission { .. } | Vfio::Privilege { .. } => Exit::Permission,
                Vfio::Busy { .. } => Exit::Retry,
                Vfio::Kernel { .. } | Vfio::Dma { .. } | Vfio::LockedMemory { .. } | Vfio::NoIova { .. } => Exit::Os,
                _ => Exit::Unavailable,
            },
            (akida_hal::Error::Node(Node::Open { source, .. }), _) => match source.kind() {
                std::io::ErrorKind::PermissionDenied => Exit::Permission,
                _ => Exit::Unavailable,
            },
            (akida_hal::Error::Node(Node::Name { .. } | Node::NoNode { .. }), _) => Exit::Usage,
            (_, ErrorKind::Host) => Exit::Os,
            (_, ErrorKind::TimedOut) => Exit::Retry,
            (_, ErrorKind::Device) => Exit::Board,
            (_, ErrorKind::Lost) => Exit::Unavailable,
            (_, ErrorKind::Program) => Exit::Data,
            _ => Exit::Internal,
        };
        let help = error.advice().into_owned();
        Self::new(exit, chain(&error), help)
    }
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        match &error {
            FileError::Io { path, source, operation: "open" | "read" | "map" } => Self::input(path, source),
            FileError::Io { path, source, .. } => Self::output(path, source),
            FileError::NotAFile(_) => Self::new(Exit::NoInput, chain(&error), "name a model file"),
            FileError::Content { source, .. } => {
                let help = match **source {
                    FormatError::NotAModel => "models are made with `akida-convert quantize` or `akida-convert import`",
                    FormatError::Version { .. } => "convert the network again with this release's akida-convert",
                    _ => "the file is damaged: copy it again or convert the network again",
                };
                Self::new(Exit::Data, chain(&error), help)
            }
            FileError::Model { .. } => Self::new(Exit::Internal, chain(&error), REPORT),
        }
    }
}

impl From<EdgeError> for Failure {
    fn from(error: EdgeError) -> Self {
        let help = match &error {
            EdgeError::NoQuantizer { .. } => "give integers: uint8 (N, height, width, channels)",
            EdgeError::Shape { .. } => "float32 arrays have the layout of the ONNX input, the batch first",
            EdgeError::NotANumber { .. } => "replace values that are not finite",
        };
        Self::new(Exit::Data, chain(&error), help)
    }
}

impl From<MapError> for Failure {
    fn from(error: MapError) -> Self {
        let (exit, help) = match &error {
            MapError::Target { .. } => (Exit::Data, "convert the network for this board, or choose another --device"),
            MapError::NotOnHardware { .. } => (Exit::Data, "leave --hw-only out to run that layer on the host"),
            MapError::Model { .. } => (Exit::Data, "convert the network again with this release's akida-convert"),
            _ => (Exit::Internal, REPORT),
        };
        Self::new(exit, chain(&error), help)
    }
}

impl From<ConvertError> for Failure {
    fn from(error: ConvertError) -> Self {
        let help = match error {
            ConvertError::Onnx(error) => return error.into(),
            ConvertError::Import(error) => return error.into(),
            ConvertError::Calibrate(_) => "give float32 samples in the layout of the ONNX input, the batch first",
            _ => "change the network there and export it again; docs/converter.md lists what boards compute",
        };
        Self::new(Exit::Data, chain(&error), help)
    }
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Onnx(error) => error.into(),
            ImportError::NotQuantized { .. } => Self::new(
                Exit::Data,
                chain(&error),
                "akida-convert quantize MODEL.onnx --target akida2 --samples FILE.npz -o OUT.akm",
            ),
            ImportError::FloatTail { .. } => Self::new(
                Exit::Data,
                chain(&error),
                "end the network before these operations, or quantize with --quantize-until",
            ),
            _ => Self::new(
                Exit::Data,
                chain(&error),
                "quantize the float network again, with QuantizeML 1.2 or akida-convert quantize",
            ),
        }
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        let message = chain(&error);
        let (exit, help) = match error {
            SessionError::Map { source, .. } => {
                let Failure { exit, help, .. } = (*source).into();
                (exit, help)
            }
            SessionError::Device { source, .. } | SessionError::StateLost { source, .. } => {
                let Failure { exit, help, .. } = (*source).into();
                (exit, help)
            }
            SessionError::UnknownEncoding { .. } => {
                (Exit::Unavailable, "run it on a simulated board: --device sim".into())
            }
            SessionError::Edge { .. } | SessionError::Shape { .. } | SessionError::Input { .. } => (
                Exit::Data,
                "give float32 in the layout of the ONNX input, or uint8 (N, height, width, channels)".into(),
            ),
            SessionError::OutputLength { .. } | SessionError::KnownAnswer { .. } | SessionError::Refused { .. } => {
                (Exit::Board, "do not use this board; please report this with RUST_LOG=debug output".into())
            }
            _ => (Exit::Internal, REPORT.into()),
        };
        Self::new(exit, message, help)
    }
}

impl From<HybridError> for Failure {
    fn from(error: HybridError) -> Self {
        let message = chain(&error);
        let (exit, help) = match error {
            HybridError::Board { source, .. } => {
                let Failure { exit, help, .. } = (*source).into();
                (exit, help)
            }
            HybridError::HostOperations { .. } => {
                (Exit::Data, "leave --hw-only out to run these operations on the host, or change them".into())
            }
            HybridError::Streams { .. } => (Exit::Data, "move the operations between the parts behind them".into()),
            HybridError::Raw { .. } | HybridError::Shape { .. } => {
                (Exit::Data, "give float32 in the layout of the ONNX input, the batch first".into())
            }
            HybridError::Prepare { .. } => {
                (Exit::Data, "convert the network again with this release's akida-convert".into())
            }
            _ => (Exit::Internal, REPORT.into()),
        };
        Self::new(exit, message, help)
    }
}

impl From<OnnxError> for Failure {
    fn from(error: OnnxError) -> Self {
        let help = match &error {
            OnnxError::Io { path, source, .. } => return Self::input(path, source),
            OnnxError::NotOnnx { .. } => "export the network again, for example with torch.onnx.export",
            OnnxError::Limit { .. } => "export a smaller network; the limits are in docs/converter.md",
            _ => "check the file with onnx.checker.check_model and export the network again",
        };
        Self::new(Exit::Data, chain(&error), help)
    }
}
