"""Batch inference over a dataset, on all boards of a Ray cluster."""
import argparse

import numpy as np
import ray

from boards import RESOURCE, Boards


def infer(x, model, batch, boards=None):
    """Outputs for all samples of `x` in their order, and which board made each. One actor for each board of the cluster unless said."""
    boards = boards or int(ray.cluster_resources().get(RESOURCE, 0))
    if not boards:
        raise SystemExit(f"no node of this cluster has the resource {RESOURCE}: ray start --resources '{{\"{RESOURCE}\": 1}}'")
    rows = ray.data.from_items([{"i": i, "x": sample} for i, sample in enumerate(x)], override_num_blocks=max(4 * boards, len(x) // (4 * batch)))
    done = rows.map_batches(Boards, fn_constructor_args=(model,), batch_size=batch, batch_format="numpy",
                            compute=ray.data.ActorPoolStrategy(size=boards), num_cpus=0, resources={RESOURCE: 1})
    done = sorted(done.take_all(), key=lambda row: row["i"])
    if [row["i"] for row in done] != list(range(len(x))):
        raise SystemExit(f"{len(done)} of {len(x)} samples came back")
    return np.stack([row["y"] for row in done]), [str(row["board"]) for row in done]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True, help="an .npz file")
    parser.add_argument("--array", required=True, help="which of its arrays; samples first")
    parser.add_argument("--output", required=True, help="an .npz file")
    parser.add_argument("--batch", type=int, default=64, help="samples of a request")
    arguments = parser.parse_args()
    ray.init()
    x = np.load(arguments.input)[arguments.array]
    y, boards = infer(x, arguments.model, arguments.batch)
    np.savez(arguments.output, y=y, board=np.array(boards))
    for board in sorted(set(boards)):
        print(f"{boards.count(board)} samples on {board}")


if __name__ == "__main__":
    main()
