"""A program of its own, ``engine.py FILE``: a model that answers at once, in the conversation of the emulator's real engine.

Its sentences are chance, fixed by its file, by what it is asked and, at temperatures above 0, by the seed.
"""

import json
import random
import sys
import threading

WORDS = ("a", "cloud", "rents", "the", "fast", "green", "machine", "while", "waves", "count", "shadows")

MOST = 24


def main(file: str) -> None:
    with open(file, "rb") as opened:  # noqa: PTH123 (starts faster)
        begins = opened.read(64).hex()

    def say(**words: object) -> None:
        sys.stdout.write(json.dumps(words) + "\n")
        sys.stdout.flush()

    def answer(number: int, ask: dict) -> None:
        seed = ask.get("seed", random.random()) if ask["temperature"] else 0
        chance = random.Random(f"{begins}{ask['messages']}{seed}")
        count = min(MOST, ask.get("max_tokens", MOST))
        for _ in range(count):
            say(id=number, text=f"{chance.choice(WORDS)} ")
        prompt = sum(len(one["content"].split()) for one in ask["messages"])
        reason = "length" if count < MOST else "stop"
        say(id=number, done={"reason": reason, "prompt_tokens": prompt, "prompt_s": 0.001, "tokens": count, "answer_s": 0.002})

    say(ready=True)
    for line in sys.stdin:
        told = json.loads(line)
        if "id" in told:
            threading.Thread(target=answer, args=(told["id"], told["ask"])).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
