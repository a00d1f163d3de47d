//! Streams of inferences: requests are handed over as they come, answers go back in their order.
//!
//! A request that fails does not end the stream: its answer carries the error and the request's id. A client that sends
//! `triton_grpc_error: true` in the head of the call has it otherwise: the first failure ends the stream with its status.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::convert::{self, Context};
use super::status;
use crate::error::ServeError;
use crate::infer::Pending;
use crate::net::Shared;
use crate::net::memory::Claim;
use crate::proto::inference as proto;
use crate::proto::inference::infer_parameter::ParameterChoice;

/// Requests of one stream that may be under way; more wait in the connection, which tells the client to wait.
const UNDER_WAY: usize = 256;

/// A request of the stream, or why it was not handed over.
struct Entry {
    id: String,
    model: String,
    pending: Result<(Pending, Claim), ServeError>,
}

/// The answers to a stream of requests.
pub fn answers(
    shared: Arc<Shared>,
    mut requests: Streaming<proto::ModelInferRequest>,
    context: Context,
    strict: bool,
) -> impl Stream<Item = Result<proto::ModelStreamInferResponse, Status>> + Send {
    let (hand_over, mut under_way) = mpsc::channel::<Result<Entry, Status>>(UNDER_WAY);
    let (tell, told) = mpsc::channel(4);
    let mut stop = shared.stopped();
    tokio::spawn(async move {
        loop {
            // Room first: a request that cannot be followed is not taken from the connection.
            let Ok(room) = hand_over.reserve().await else { return };
            let message = tokio::select! {
                message = requests.message() => message,
                () = hand_over.closed() => return,
                // What was taken is answered; then the client learns why there is no more.
                _ = stop.wait_for(|&stop| stop) => {
                    room.send(Err(Status::unavailable("the service ends: requests without an answer were not taken")));
                    return;
                }
            };
            match message {
                Ok(Some(message)) => room.send(Ok(submit(&shared, message, &context))),
                Ok(None) => return,
                Err(broken) => {
                    room.send(Err(broken));
                    return;
                }
            }
        }
    });
    tokio::spawn(async move {
        while let Some(entry) = under_way.recv().await {
            let answer = tokio::select! {
                answer = answer(entry, strict) => answer,
                // The client went away: what is under way is withdrawn as this ends.
                () = tell.closed() => return,
            };
            let last = answer.is_err();
            if tell.send(answer).await.is_err() || last {
                return;
            }
        }
    });
    ReceiverStream::new(told)
}

fn submit(shared: &Shared, message: proto::ModelInferRequest, context: &Context) -> Entry {
    let (id, model) = (message.id.clone(), message.model_name.clone());
    let mut claim = shared.memory.claim();
    let pending = claim.grow(convert::size(&message)).and_then(|()| {
        let request = convert::request(message, context)?;
        Ok((Pending::submit(&*shared.service, request), claim))
    });
    Entry { id, model, pending }
}

async fn answer(entry: Result<Entry, Status>, strict: bool) -> Result<proto::ModelStreamInferResponse, Status> {
    let Entry { id, model, pending } = entry?;
    let end = match pending {
        Ok((pending, claim)) => {
            let end = pending.answer().await;
            drop(claim);
            end
        }
        Err(e) => Err(e),
    };
    match end {
        Ok(answer) => {
            let mut message = convert::response(answer);
            // One answer for each request, so each is the last.
            let last = proto::InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) };
            message.parameters.insert("triton_final_response".into(), last);
            Ok(proto::ModelStreamInferResponse { error_message: String::new(), infer_response: Some(message) })
        }
        Err(e) if strict => Err(status(&e)),
        Err(e) => {
            let message = proto::ModelInferResponse { id, model_name: model, ..Default::default() };
            Ok(proto::ModelStreamInferResponse { error_message: e.message, infer_response: Some(message) })
        }
    }
}
