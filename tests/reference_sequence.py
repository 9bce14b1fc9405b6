"""A request and a place in the KV cache, as the slow simulator sees them."""

from dataclasses import dataclass, field


@dataclass(eq=False)
class Seq:
    row: int
    arrival_s: float  # at the engine
    prompt: int
    output: int
    priority: int
    text: list[tuple] = field(default_factory=list)  # what each token is, the answer's as well
    kv: int = 0
    target: int = 0
    token_s: list[float] = field(default_factory=list)
    held: list["Block"] = field(default_factory=list)
    tables: list[list["Block | None"]] = field(default_factory=list)  # of several groups
    begun: int = 0  # tokens before those of the last step that it was in
    in_step: int = -1  # which one that was
    cached: int = 0
    first_scheduled_s: float = float("nan")
    computed_s: float = 0.0  # of the steps with its prompt, before its first token
    preemptions: int = 0
    asked_s: float = float("nan")
    sent_s: float = float("nan")
    given_up_s: float = float("nan")
    home: int = -1
    claimed: int = -1
    metrics_age_s: float = float("nan")
    status: str = ""  # answered, rejected or given up: settled between client and router
    through: bool = False  # its engine has ended it
    over: bool = False  # ended, but whoever plans ahead does not know it yet
    drafts: int = 0  # that wait to be verified
    holders: int = 0  # tokens that a step under way is hoped to bring
    epoch: int = 0  # how often it lost its blocks
    dropped: bool = False  # nobody wants it, but it is in the step that was planned
    done: bool = False  # ended, but still a row of a static batch
    remote: bool = False  # another replica has the cache of its prompt
    loads: str = ""  # it has blocks for that, and is not served: loading, ready or cancelled
    brought_to: int = 0  # tokens that it has blocks of while it loads from its host
    brought: int = 0  # prompt tokens that came from there when it was first admitted
    store_tokens: int = 0  # those of them that a shared store had
    loading_s: float = 0.0
    under_way: int = 0  # tokens of the steps that are planned and have not ended
    lent: bool = False  # when it ends, its blocks stay for another replica

    @property
    def decoding(self) -> bool:
        return self.kv >= self.target and not self.done and not self.over


@dataclass(eq=False)
class Block:
    """A place in the KV cache; ``text`` is all that came before its end, when it is full."""

    text: tuple | None = None
    since: int = 0  # the older of two with the same text is found
    holders: int = 0
