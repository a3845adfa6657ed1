"""Who answers at which host and path, in which dialect, by whose rules: one row per provider.

Facts only; the sources are the links of the rows and of the rules in `refusals.py`.
"""

import re
from typing import Literal

import msgspec

from tests.provider.turns import Dialect

type Family = Literal["deepseek", "kimi", "glm", "mimo", "minimax", "none"]
# A value at a path of the request body that turns thinking off.
type Switch = tuple[tuple[str, ...], object]

FOREIGN_HOST = "files.example.org"
# Hosts nobody may touch: they answer 200 with `foreign`.
FOREIGN_HOSTS = (FOREIGN_HOST, "api.anthropic.com", "api.openai.com")

TYPE_DISABLED: Switch = (("thinking", "type"), "disabled")
EFFORT_NONE: Switch = (("reasoning_effort",), "none")
NOT_ENABLED: Switch = (("enable_thinking",), False)
REASONING_OFF: Switch = (("reasoning", "enabled"), False)
REASONING_NONE: Switch = (("reasoning", "effort"), "none")


class Provider(msgspec.Struct, frozen=True):
    """One provider as clients name it. The first of its hosts and paths is the one its properties give.

    `family`: whose rules it has; "" goes by the model's name. `shape`: whose stream, "" likewise.
    `reads`: fields of a chat message that may carry reasoning, best first ("think": the tag in the content).
    `writes`: the field of its chat answers, where the shape leaves a choice. `off`: what turns thinking off;
    `deaf`: families for which it does not. `forbids`: fields it refuses ("items": reasoning items).
    `thoughts`: the member of its reasoning items that holds the thought; `summary`: whether one must be there
    or must not. `envelope`: how it words a refusal.
    """

    name: str
    hosts: tuple[str, ...]
    model: str
    chat: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()
    responses: tuple[str, ...] = ()
    family: Family | Literal[""] = ""
    shape: str = ""
    reads: tuple[str, ...] = ("reasoning_content",)
    writes: str = "reasoning_content"
    off: tuple[Switch, ...] = (TYPE_DISABLED,)
    deaf: tuple[Family, ...] = ()
    forbids: tuple[str, ...] = ()
    thoughts: Literal["content", "summary"] = "content"
    summary: Literal["", "always", "never"] = ""
    envelope: str = "openai"

    @property
    def host(self) -> str:
        return self.hosts[0]

    @property
    def chat_path(self) -> str:
        return self.chat[0]

    @property
    def base_url(self) -> str:
        """The base URL of the OpenAI client library."""
        path = self.chat[0].removesuffix("/chat/completions")
        return f"https://{self.host}{path}"

    @property
    def responses_url(self) -> str:
        """The same for the Responses API, which some have elsewhere."""
        return f"https://{self.host}{self.responses[0].removesuffix('/responses')}"

    @property
    def messages_url(self) -> str:
        """The base URL of the Anthropic client library, which adds /v1/messages."""
        return f"https://{self.host}{self.messages[0].removesuffix('/v1/messages')}"

    def dialect(self, path: str) -> Dialect | None:
        path = path.partition("?")[0]
        rows: tuple[tuple[Dialect, tuple[str, ...]], ...]
        rows = (("chat", self.chat), ("messages", self.messages), ("responses", self.responses))
        return next((dialect for dialect, paths in rows if path in paths), None)

    def family_of(self, model: str) -> Family:
        if self.family:
            return self.family
        return next((family for family, name in _FAMILIES if re.search(name, model, re.I)), "none")


_FAMILIES: tuple[tuple[Family, str], ...] = (
    ("deepseek", r"deepseek"),
    ("kimi", r"kimi|moonshot|(^|/)k[23](\W|p|$)"),
    ("glm", r"(^|[^a-z])glm"),
    ("mimo", r"(^|[^a-z])mimo"),
    ("minimax", r"minimax"),
)

DEEPSEEK = Provider(
    "deepseek",
    ("api.deepseek.com",),
    "deepseek-flash",
    chat=("/chat/completions", "/v1/chat/completions", "/beta/chat/completions"),
    messages=("/anthropic/v1/messages", "/anthropic/messages"),
    responses=("/responses", "/v1/responses"),
    family="deepseek",
    off=(TYPE_DISABLED, EFFORT_NONE, REASONING_NONE),
    envelope="deepseek",
)
KIMI = Provider(
    "kimi",
    ("api.moonshot.ai", "api.moonshot.cn"),
    "kimi-k2.6",
    chat=("/v1/chat/completions",),
    messages=("/anthropic/v1/messages",),
    responses=("/v1/responses",),
    family="kimi",
    thoughts="summary",
    envelope="kimi",
)
KIMI_CODING = Provider(
    "kimi-coding",
    ("api.kimi.com",),
    "kimi-for-coding",
    chat=("/coding/v1/chat/completions",),
    messages=("/coding/v1/messages",),
    responses=("/coding/v1/responses",),
    family="kimi",
    thoughts="summary",
    envelope="kimi",
)
GLM = Provider(
    "glm",
    ("api.z.ai", "open.bigmodel.cn"),
    "glm-5.3-flash",
    chat=("/api/paas/v4/chat/completions", "/api/coding/paas/v4/chat/completions"),
    messages=("/api/anthropic/v1/messages",),
    responses=("/api/v1/responses",),
    family="glm",
    envelope="glm",
)
MIMO = Provider(
    "mimo",
    (
        "api.xiaomimimo.com",
        "token-plan-cn.xiaomimimo.com",
        "token-plan-sgp.xiaomimimo.com",
        "token-plan-ams.xiaomimimo.com",
    ),
    "mimo-v2.5-pro",
    chat=("/v1/chat/completions",),
    messages=("/anthropic/v1/messages",),
    responses=("/v1/responses",),
    family="mimo",
    summary="never",
    envelope="mimo",
)
MINIMAX = Provider(
    "minimax",
    ("api.minimax.io", "api.minimaxi.com", "api.minimax.cn", "api.minimax.chat"),
    "MiniMax-M2.7",
    chat=("/v1/chat/completions", "/v1/text/chatcompletion_v2"),
    messages=("/anthropic/v1/messages",),
    responses=("/v1/responses",),
    family="minimax",
    reads=("reasoning_details", "think", "reasoning_content"),
    envelope="minimax",
)
# The makers themselves, each at its own host.
PROVIDERS = (DEEPSEEK, KIMI, GLM, MIMO, MINIMAX)


def _opencode(name: str, folder: str) -> Provider:
    """The upstream's shape passes, `thinking` of Kimi and GLM does not: anomalyco/opencode/issues/25001."""
    return Provider(
        name,
        ("opencode.ai",),
        "deepseek-v4-pro",
        chat=(f"{folder}/v1/chat/completions",),
        messages=(f"{folder}/v1/messages",),
        responses=(f"{folder}/v1/responses",),
        reads=("reasoning_content", "reasoning", "reasoning_details", "think"),
        off=(TYPE_DISABLED, EFFORT_NONE, REASONING_NONE),
        deaf=("kimi", "glm"),
        envelope="opencode",
    )


ZEN = _opencode("opencode-zen", "/zen")
GO = _opencode("opencode-go", "/zen/go")
OPENROUTER = Provider(
    "openrouter",
    ("openrouter.ai",),
    "moonshotai/kimi-k2.6",
    chat=("/api/v1/chat/completions",),
    messages=("/api/v1/messages",),
    responses=("/api/v1/responses",),
    shape="openrouter",
    reads=("reasoning_details", "reasoning", "reasoning_content"),
    writes="reasoning",
    off=(REASONING_OFF, REASONING_NONE),
    envelope="openrouter",
)
KILO = Provider(
    "kilo",
    ("api.kilo.ai",),
    "moonshotai/kimi-k2.6",
    chat=("/api/gateway/chat/completions", "/api/openrouter/chat/completions"),
    messages=("/api/gateway/v1/messages",),
    responses=("/api/gateway/responses", "/api/openrouter/responses"),
    shape="openrouter",
    reads=("reasoning_details", "reasoning", "reasoning_content"),
    writes="reasoning",
    off=(REASONING_OFF, REASONING_NONE),
    envelope="openrouter",
)
SILICONFLOW = Provider(
    "siliconflow",
    ("api.siliconflow.cn", "api.siliconflow.com"),
    "Pro/moonshotai/Kimi-K2.5",
    chat=("/v1/chat/completions",),
    shape="plain",
    off=(NOT_ENABLED,),
    envelope="siliconflow",
)
VOLCENGINE = Provider(
    "volcengine",
    ("ark.cn-beijing.volces.com",),
    "deepseek-v4-pro-ga-260813",
    chat=(
        "/api/v3/chat/completions",
        "/api/coding/v3/chat/completions",
        "/api/plan/v3/chat/completions",
    ),
    messages=("/api/compatible/v1/messages", "/api/coding/v1/messages", "/api/plan/v1/messages"),
    responses=("/api/v3/responses", "/api/plan/v3/responses"),
    shape="plain",
)
# Refuses reasoning items: https://github.com/lidge-jun/opencodex/pull/5173
ARK_CODING = Provider(
    "ark-coding",
    ("ark.cn-beijing.volces.com",),
    "glm-5.3",
    responses=("/api/coding/v3/responses",),
    forbids=("items",),
    envelope="ark",
)
DASHSCOPE = Provider(
    "dashscope",
    ("dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com"),
    "deepseek-v4-pro",
    chat=("/compatible-mode/v1/chat/completions", "/v1/chat/completions"),
    messages=("/apps/anthropic/v1/messages",),
    responses=("/compatible-mode/v1/responses",),
    family="none",
    summary="always",
    shape="plain",
    off=(NOT_ENABLED,),
)
STEPFUN = Provider(
    "stepfun",
    ("api.stepfun.com", "api.stepfun.ai"),
    "step-3.5-flash",
    chat=("/v1/chat/completions", "/step_plan/v1/chat/completions"),
    family="none",
    shape="plain",
    reads=("reasoning", "reasoning_content"),
    writes="reasoning",
    off=(),
)
TOGETHER = Provider(
    "together",
    ("api.together.ai", "api.together.xyz"),
    "deepseek-ai/DeepSeek-V4-Pro",
    chat=("/v1/chat/completions",),
    family="none",
    shape="plain",
    reads=("reasoning", "reasoning_content"),
    writes="reasoning",
    off=(EFFORT_NONE, REASONING_OFF),
)
FIREWORKS = Provider(
    "fireworks",
    ("api.fireworks.ai",),
    "accounts/fireworks/models/deepseek-v4-pro",
    chat=("/inference/v1/chat/completions",),
    family="none",
    shape="plain",
    off=(EFFORT_NONE,),
    forbids=("reasoning",),
    envelope="fireworks",
)
GROQ = Provider(
    "groq",
    ("api.groq.com",),
    "moonshotai/kimi-k2.6",
    chat=("/openai/v1/chat/completions",),
    family="none",
    shape="plain",
    reads=("reasoning",),
    writes="reasoning",
    off=(),
    forbids=("reasoning_content",),
    envelope="groq",
)
CEREBRAS = Provider(
    "cerebras",
    ("api.cerebras.ai",),
    "zai-glm-4.7",
    chat=("/v1/chat/completions",),
    family="none",
    shape="plain",
    reads=("reasoning",),
    writes="reasoning",
    off=(),
    forbids=("reasoning_content",),
    envelope="cerebras",
)
MISTRAL = Provider(
    "mistral",
    ("api.mistral.ai",),
    "glm-5.2",
    chat=("/v1/chat/completions",),
    family="none",
    shape="items",
    reads=("items",),
    off=(),
    forbids=("reasoning_content", "reasoning", "reasoning_details"),
    envelope="mistral",
)
DATABRICKS = Provider(
    "databricks",
    ("adb-1234567890123456.7.azuredatabricks.net",),
    "databricks-deepseek-v4-pro",
    chat=("/serving-endpoints/chat/completions",),
    family="none",
    shape="items",
    reads=("items",),
    off=(),
    forbids=("reasoning_content", "reasoning", "reasoning_details"),
    envelope="databricks",
)
NOVITA = Provider(
    "novita",
    ("api.novita.ai",),
    "moonshotai/kimi-k2.6",
    chat=("/openai/v1/chat/completions",),
    messages=("/anthropic/v1/messages",),
    shape="plain",
    reads=("reasoning_details", "reasoning_content"),
)
NVIDIA = Provider(
    "nvidia",
    ("integrate.api.nvidia.com",),
    "deepseek-ai/deepseek-v4-pro",
    chat=("/v1/chat/completions",),
    family="none",
    shape="plain",
    reads=("reasoning_content", "reasoning"),
    off=((("chat_template_kwargs", "thinking"), False), (("chat_template_kwargs", "enable_thinking"), False)),
)
TENCENT = Provider(
    "tencent",
    ("tokenhub.tencentmaas.com", "tokenhub-intl.tencentcloudmaas.com", "api.lkeap.cloud.tencent.com"),
    "deepseek-v4-pro",
    chat=("/v1/chat/completions", "/plan/v3/chat/completions", "/coding/v3/chat/completions"),
    messages=("/plan/anthropic/v1/messages", "/coding/anthropic/v1/messages", "/v1/messages"),
    shape="plain",
)
QIANFAN = Provider(
    "qianfan",
    ("qianfan.baidubce.com",),
    "deepseek-v4-pro",
    chat=("/v2/chat/completions", "/v2/coding/chat/completions", "/v2/tokenplan/personal/chat/completions"),
    messages=("/anthropic/tokenplan/personal/v1/messages", "/anthropic/coding/v1/messages"),
    shape="plain",
)
# Somebody's own server: never refuses what is missing, until a test's settings say so.
VLLM = Provider(
    "vllm",
    ("llm.example.net",),
    "deepseek-ai/DeepSeek-V4-Flash",
    chat=("/v1/chat/completions",),
    messages=("/v1/messages",),
    responses=("/v1/responses",),
    family="none",
    shape="plain",
    reads=("reasoning", "reasoning_content"),
    writes="reasoning",
    off=((("chat_template_kwargs", "thinking"), False), (("chat_template_kwargs", "enable_thinking"), False)),
)
GATEWAYS = (
    ZEN,
    GO,
    OPENROUTER,
    KILO,
    SILICONFLOW,
    VOLCENGINE,
    ARK_CODING,
    DASHSCOPE,
    STEPFUN,
    TOGETHER,
    FIREWORKS,
    GROQ,
    CEREBRAS,
    MISTRAL,
    DATABRICKS,
    NOVITA,
    NVIDIA,
    TENCENT,
    QIANFAN,
    VLLM,
)
EVERYBODY = (*PROVIDERS, KIMI_CODING, *GATEWAYS)
# The first row of a host; `at` tells OpenCode's two plans apart.
BY_HOST = {host: provider for provider in reversed(EVERYBODY) for host in provider.hosts}


def at(host: str, path: str) -> Provider | None:
    """Who answers there; a path nobody knows belongs to the host's first row."""
    here = [provider for provider in EVERYBODY if host in provider.hosts]
    return next((provider for provider in here if provider.dialect(path)), here[0] if here else None)
