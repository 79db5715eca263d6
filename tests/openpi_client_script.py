"""What a user of openpi's client writes; run by an interpreter that has ``openpi-client`` and nothing of ours."""

import json
import sys

import numpy as np
from openpi_client.websocket_client_policy import WebsocketClientPolicy  # pyright: ignore[reportMissingImports]

port, token = int(sys.argv[1]), sys.argv[2]
client = WebsocketClientPolicy("127.0.0.1", port, api_key=token)
element = {
    "observation/image": np.full((224, 224, 3), 10, np.uint8),
    "observation/wrist_image": np.full((224, 224, 3), 20, np.uint8),
    "observation/state": np.arange(8) / 10,
    "prompt": "pick up the bowl",
}
answers = [client.infer(element) for _ in range(2)]
try:
    client.infer({**element, "observation/state": np.zeros(7)})
    error = ""
except RuntimeError as failed:
    error = str(failed)
result = {
    "numpy": np.__version__,
    "metadata": sorted(client.get_server_metadata()),
    "actions": [answer["actions"].tolist() for answer in answers],
    "timing": sorted(answers[1]["server_timing"]),
    "error": error,
}
print(json.dumps(result))
