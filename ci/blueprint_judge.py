"""The judge behind ci/blueprint-judge, which see; runs in the environment that it makes.

Follows authentik's own reading of a blueprint (authentik/blueprints/v1/common.py and importer.py): the tags take the
same arguments and are resolved entry by entry, what only the server can know (a primary key, a secret's text) being
replaced by a value of the right kind. It is stricter where authentik says nothing and does something else than what is
written: a field that a model has not, for instance, is dropped there and refused here.

Expressions are compiled by the Python that runs this, which may be older than authentik's.
"""

import importlib
import importlib.util
import inspect
import json
import re
import sys
import textwrap
import traceback
import types
import typing
import uuid
import warnings
from enum import Enum
from functools import cache, reduce
from operator import xor
from pathlib import Path

import yaml

# Blueprint model → class of its API request, as far as blueprints of services may want them.
MODELS = {
    "authentik_blueprints.blueprintinstance": "BlueprintInstanceRequest",
    "authentik_brands.brand": "BrandRequest",
    "authentik_core.application": "ApplicationRequest",
    "authentik_core.applicationentitlement": "ApplicationEntitlementRequest",
    "authentik_core.group": "GroupRequest",
    "authentik_core.token": "TokenRequest",
    "authentik_core.user": "UserRequest",
    "authentik_crypto.certificatekeypair": "CertificateKeyPairRequest",
    "authentik_events.notificationrule": "NotificationRuleRequest",
    "authentik_events.notificationtransport": "NotificationTransportRequest",
    "authentik_events.notificationwebhookmapping": "NotificationWebhookMappingRequest",
    "authentik_flows.flow": "FlowRequest",
    "authentik_flows.flowstagebinding": "FlowStageBindingRequest",
    "authentik_outposts.dockerserviceconnection": "DockerServiceConnectionRequest",
    "authentik_outposts.kubernetesserviceconnection": "KubernetesServiceConnectionRequest",
    "authentik_outposts.outpost": "OutpostRequest",
    "authentik_policies.policybinding": "PolicyBindingRequest",
    "authentik_policies_dummy.dummypolicy": "DummyPolicyRequest",
    "authentik_policies_event_matcher.eventmatcherpolicy": "EventMatcherPolicyRequest",
    "authentik_policies_expiry.passwordexpirypolicy": "PasswordExpiryPolicyRequest",
    "authentik_policies_expression.expressionpolicy": "ExpressionPolicyRequest",
    "authentik_policies_geoip.geoippolicy": "GeoIPPolicyRequest",
    "authentik_policies_password.passwordpolicy": "PasswordPolicyRequest",
    "authentik_policies_reputation.reputationpolicy": "ReputationPolicyRequest",
    "authentik_providers_ldap.ldapprovider": "LDAPProviderRequest",
    "authentik_providers_oauth2.oauth2provider": "OAuth2ProviderRequest",
    "authentik_providers_oauth2.scopemapping": "ScopeMappingRequest",
    "authentik_providers_proxy.proxyprovider": "ProxyProviderRequest",
    "authentik_providers_rac.racprovider": "RACProviderRequest",
    "authentik_providers_radius.radiusprovider": "RadiusProviderRequest",
    "authentik_providers_saml.samlpropertymapping": "SAMLPropertyMappingRequest",
    "authentik_providers_saml.samlprovider": "SAMLProviderRequest",
    "authentik_providers_scim.scimmapping": "SCIMMappingRequest",
    "authentik_providers_scim.scimprovider": "SCIMProviderRequest",
    "authentik_rbac.role": "RoleRequest",
    "authentik_sources_ldap.ldapsource": "LDAPSourceRequest",
    "authentik_sources_oauth.oauthsource": "OAuthSourceRequest",
    "authentik_sources_saml.samlsource": "SAMLSourceRequest",
    "authentik_stages_authenticator_duo.authenticatorduostage": "AuthenticatorDuoStageRequest",
    "authentik_stages_authenticator_email.authenticatoremailstage": "AuthenticatorEmailStageRequest",
    "authentik_stages_authenticator_sms.authenticatorsmsstage": "AuthenticatorSMSStageRequest",
    "authentik_stages_authenticator_static.authenticatorstaticstage": "AuthenticatorStaticStageRequest",
    "authentik_stages_authenticator_totp.authenticatortotpstage": "AuthenticatorTOTPStageRequest",
    "authentik_stages_authenticator_validate.authenticatorvalidatestage": "AuthenticatorValidateStageRequest",
    "authentik_stages_authenticator_webauthn.authenticatorwebauthnstage": "AuthenticatorWebAuthnStageRequest",
    "authentik_stages_captcha.captchastage": "CaptchaStageRequest",
    "authentik_stages_consent.consentstage": "ConsentStageRequest",
    "authentik_stages_deny.denystage": "DenyStageRequest",
    "authentik_stages_dummy.dummystage": "DummyStageRequest",
    "authentik_stages_email.emailstage": "EmailStageRequest",
    "authentik_stages_identification.identificationstage": "IdentificationStageRequest",
    "authentik_stages_invitation.invitation": "InvitationRequest",
    "authentik_stages_invitation.invitationstage": "InvitationStageRequest",
    "authentik_stages_password.passwordstage": "PasswordStageRequest",
    "authentik_stages_prompt.prompt": "PromptRequest",
    "authentik_stages_prompt.promptstage": "PromptStageRequest",
    "authentik_stages_redirect.redirectstage": "RedirectStageRequest",
    "authentik_stages_user_delete.userdeletestage": "UserDeleteStageRequest",
    "authentik_stages_user_login.userloginstage": "UserLoginStageRequest",
    "authentik_stages_user_logout.userlogoutstage": "UserLogoutStageRequest",
    "authentik_stages_user_write.userwritestage": "UserWriteStageRequest",
}
META = "authentik_blueprints.metaapplyblueprint"

# What !Find may look for besides: what all models of a kind have in common. Model → fields.
BASES = {
    "authentik_blueprints.blueprintinstance": {"name", "path"},
    "authentik_core.propertymapping": {"name", "managed", "expression"},
    "authentik_core.provider": {"name"},
    "authentik_core.source": {"name", "slug", "managed"},
    "authentik_flows.stage": {"name"},
    "authentik_outposts.outpostserviceconnection": {"name", "local"},
    "authentik_policies.policy": {"name"},
}
NUMBERED = re.compile(r"authentik_core\.(provider|user)|authentik_providers_\w+\.\w+provider")

# Fields that a blueprint has and the API has not, or has not in every version.
BLUEPRINT_ONLY = {
    "authentik_core.application": {"icon"},
    "authentik_core.token": {"key"},
    "authentik_core.user": {"password", "permissions"},
    "authentik_flows.flow": {"background"},
    "authentik_rbac.role": {"permissions"},
}
# Models that can be looked up by `managed`, although some let nobody set it.
MANAGED = re.compile(
    r"authentik_(crypto\.certificatekeypair|core\.token|core\.propertymapping|outposts\.outpost|rbac\.role"
    r"|sources_\w+\.\w+source|\w+\.\w*mapping)"
)

# What a field may refer to. The API models know only "a UUID" or "a number".
TARGETS = (
    r"authentik_core\.(application|applicationentitlement|source)|authentik_flows\.(flow|flowstagebinding)"
    r"|authentik_sources_\w+\.\w+source|authentik_events\.notificationrule"
)
CERTIFICATE = r"authentik_crypto\.certificatekeypair"
PROVIDER = r"authentik_core\.provider|authentik_providers_\w+\.\w+provider"
STAGE = r"authentik_flows\.stage|authentik_stages_\w+\.\w+stage"
REFERENCES = [
    # model, field, what it may refer to
    (r"authentik_policies\.policybinding", "target", TARGETS),
    (r"authentik_flows\.flowstagebinding", "target", r"authentik_flows\.flow"),
    (r"authentik_flows\.flowstagebinding", "stage", STAGE),
    (r".*", r"\w+_flow|flow_(?!set)\w+|flow", r"authentik_flows\.flow"),
    (r".*", r"property_mappings\w*|user_property_mappings", r"authentik_\w+\.\w*mapping"),
    (r".*", "provider|providers|backchannel_providers", PROVIDER),
    (r".*", "jwt_federation_providers", r"authentik_providers_(oauth2\.oauth2provider|proxy\.proxyprovider)"),
    (r".*", "jwt_federation_sources|sources", r"authentik_core\.source|authentik_sources_\w+\.\w+source"),
    (r".*", "group|groups|parent|parents|children", r"authentik_core\.group"),
    (r".*", "user|users", r"authentik_core\.user"),
    (r".*", "roles", r"authentik_rbac\.role"),
    (r".*", "policy|validation_policies", r"authentik_policies\w*\.\w*policy"),
    (r".*", "configuration_stages|password_stage|captcha_stage|webauthn_stage", STAGE),
    (r".*", r"signing_key|encryption_key|\w*certificate|client_certificates|\w+_kp", CERTIFICATE),
    (r".*", "default_application|app", r"authentik_core\.application"),
    (r".*", "service_connection", r"authentik_outposts\.\w*serviceconnection"),
]
OUTPOST_PROVIDERS = {
    "proxy": "authentik_providers_proxy.proxyprovider",
    "ldap": "authentik_providers_ldap.ldapprovider",
    "radius": "authentik_providers_radius.radiusprovider",
    "rac": "authentik_providers_rac.racprovider",
}
EMBEDDED = "goauthentik.io/outposts/embedded"
EMBEDDED_NAME = "authentik Embedded Outpost"

DURATIONS = {
    "access_code_validity", "access_token_validity", "refresh_token_validity", "refresh_token_threshold",
    "assertion_valid_not_before", "assertion_valid_not_on_or_after", "session_valid_not_on_or_after",
    "session_duration", "remember_me_offset", "remember_device", "last_auth_threshold", "connection_expiry",
    "consent_expire_in", "recovery_cache_timeout", "resume_timeout", "temporary_user_delete_after", "token_expiry",
    "default_token_duration", "expiry_granted_max",
}  # fmt: skip
PART = r"(microseconds|milliseconds|seconds|minutes|hours|days|weeks)=-?[0-9]+(\.[0-9]+)?"
DURATION = re.compile(rf"{PART}(;{PART})*", re.IGNORECASE)

STATES = ("present", "created", "must_created", "absent")


class Problem(Exception):
    """What is wrong with an entry, where nothing more can be said about it."""


# ---------------------------------------------------------------------------------------------------------------------
# Reading: PyYAML's safe loader, as in authentik, plus the tags, minus what it is silent about.


class Loader(yaml.SafeLoader):
    """Safe loader that knows authentik's tags and refuses a key written twice."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict, Tag)):
                raise yaml.constructor.ConstructorError(None, None, "a key must be text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class Unknown:
    """A value that only the server knows. `text`: whatever it is, it is text."""

    def __init__(self, text=False):
        self.text = text

    def __repr__(self):
        return f"Unknown@{id(self)}"


class Ref:
    """The primary key of some object of `model` (None: cannot be told)."""

    def __init__(self, model, label, key):
        self.model, self.label, self.key = model, label, key

    def __repr__(self):
        return f"Ref{self.key!r}"


class Tag:
    """Base of the tags. `takes`: (least, most) arguments of a list, and whether plain text will do too, or only that."""

    takes = (1, None)
    scalar = False

    def __init__(self, loader, node):
        name = node.tag
        if self.scalar and isinstance(node, yaml.ScalarNode):
            self.args = [node.value]
        elif self.takes and isinstance(node, yaml.SequenceNode):
            least, most = self.takes
            if not least <= len(node.value) <= (most or len(node.value)):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{name} with {len(node.value)} arguments", node.start_mark
                )
            self.args = [loader.construct_object(argument, deep=True) for argument in node.value]
        else:
            wanted = "text" if not self.takes else "text or a list" if self.scalar else "a list"
            raise yaml.constructor.ConstructorError(None, None, f"{name} takes {wanted}", node.start_mark)

    def resolve(self, scope):
        raise NotImplementedError


class KeyOf(Tag):
    takes, scalar = None, True

    def resolve(self, scope):
        return scope.key_of(self.args[0])


class Find(Tag):
    def resolve(self, scope):
        model = scope.resolve(self.args[0])
        known = scope.judge.findable(model) if isinstance(model, str) else None
        conditions = []
        for condition in self.args[1:]:
            if not isinstance(condition, list) or len(condition) != 2:
                raise Problem(f"!Find {model}: a condition is [field, value]")
            field, value = scope.resolve(condition)
            if known and isinstance(field, str) and field.split("__")[0] not in known:
                raise Problem(f"!Find {model}: has no field {field!r} to be found by")
            conditions.append((repr(field), repr(value)))
        if not conditions:
            raise Problem(f"!Find {model}: without a condition it finds any")
        return Ref(model if known else None, f"!Find {model}", ("Find", repr(model), *conditions))


class FindObject(Find):
    def resolve(self, scope):
        super().resolve(scope)
        return Unknown()


class WithDefault(Tag):
    takes, scalar = (2, 2), True

    def default(self, scope):
        """The value if there is nothing to be read, and whether one is named."""
        return (scope.resolve(self.args[1]), True) if len(self.args) == 2 else (None, False)


class Env(WithDefault):
    def resolve(self, scope):
        default, given = self.default(scope)
        return Unknown(text=not given or isinstance(default, str))


class File(Env):
    pass


class Context(WithDefault):
    def resolve(self, scope):
        key = self.args[0]
        if isinstance(key, str) and key in scope.context:
            return scope.resolve(scope.context[key])
        default, given = self.default(scope)
        # An instance may bring its own context.
        return default if given and default is not None else Unknown()


class ParseJSON(Tag):
    takes, scalar = None, True

    def resolve(self, scope):
        try:
            return json.loads(self.args[0])
        except json.JSONDecodeError as error:
            raise Problem(f"!ParseJSON: {error}") from error


class Format(Tag):
    def resolve(self, scope):
        pattern, *values = scope.resolve(self.args)
        # A number will do for %s and for %d.
        values = tuple(1 if isinstance(value, (Unknown, Ref)) else value for value in values)
        try:
            return pattern % values
        except (TypeError, ValueError) as error:
            raise Problem(f"!Format {pattern!r}: {error}") from error


class Condition(Tag):
    modes = {
        "AND": all,
        "NAND": lambda values: not all(values),
        "OR": any,
        "NOR": lambda values: not any(values),
        "XOR": lambda values: reduce(xor, values),
        "XNOR": lambda values: not reduce(xor, values),
    }
    takes = (2, None)

    def resolve(self, scope):
        mode, *values = scope.resolve(self.args)
        if not isinstance(mode, str) or mode.upper() not in self.modes:
            raise Problem(f"!Condition: {mode!r} is none of {', '.join(self.modes)}")
        if any(isinstance(value, (Unknown, Ref)) for value in values):
            return Unknown()
        return self.modes[mode.upper()]([bool(value) for value in values])


class If(Tag):
    takes = (1, 3)

    def resolve(self, scope):
        if len(self.args) == 2:
            raise Problem("!If takes a condition alone, or with both outcomes")
        condition = scope.resolve(self.args[0])
        if isinstance(condition, (Unknown, Ref)):
            condition = scope.guess()
        if len(self.args) == 1:
            return bool(condition)
        return scope.resolve(self.args[1] if condition else self.args[2])


class Enumerate(Tag):
    takes = (3, 3)

    def resolve(self, scope):
        iterable, output, body = self.args
        if isinstance(iterable, Item) and iterable.depth() == 0:
            raise Problem("!Enumerate over its own item")
        iterable = scope.resolve(iterable)
        if not isinstance(output, str) or output.upper() not in ("SEQ", "MAP"):
            raise Problem(f"!Enumerate: {output!r} is neither SEQ nor MAP")
        if isinstance(iterable, Unknown):
            items = [(Unknown(), Unknown())]
        elif isinstance(iterable, dict):
            items = list(iterable.items())
        elif isinstance(iterable, (list, str)):
            items = list(enumerate(iterable))
        else:
            raise Problem("!Enumerate: neither a list nor a mapping to go through")
        results = []
        for item in items:
            scope.items.append(item)
            try:
                results.append(scope.resolve(body))
            finally:
                scope.items.pop()
        if output.upper() == "SEQ":
            return results
        merged = {}
        for result in results:
            if isinstance(result, list) and len(result) == 2:
                result = {repr(result[0]) if isinstance(result[0], Unknown) else result[0]: result[1]}
            if not isinstance(result, dict):
                raise Problem("!Enumerate MAP: an item is [key, value], or a mapping")
            merged.update(result)
        return merged


class Item(Tag):
    takes, scalar = None, True
    part = 0

    def depth(self):
        if not self.args[0].isdecimal():
            raise Problem(f"!Index and !Value take a depth, not {self.args[0]!r}")
        return int(self.args[0])

    def resolve(self, scope):
        if self.depth() >= len(scope.items):
            raise Problem("!Index and !Value belong in as many !Enumerate as their depth says")
        return scope.items[-1 - self.depth()][self.part]


class Index(Item):
    pass


class Value(Item):
    part = 1


class AtIndex(Tag):
    takes = (2, 3)

    def resolve(self, scope):
        container, position, *default = scope.resolve(self.args)
        if isinstance(container, (Unknown, Ref)) or isinstance(position, (Unknown, Ref)):
            return Unknown()
        try:
            return container[position]
        except (KeyError, IndexError):
            if default:
                return default[0]
            raise Problem(f"!AtIndex: there is no {position!r}") from None
        except TypeError as error:
            raise Problem(f"!AtIndex: {error}") from error


for tag in (
    KeyOf, Find, FindObject, Env, File, Context, ParseJSON, Format, Condition, If, Enumerate, Index, Value, AtIndex,
):  # fmt: skip
    Loader.add_constructor(f"!{tag.__name__}", tag)


# ---------------------------------------------------------------------------------------------------------------------
# The API models.


@cache
def classes():
    """Class name → module. Reading that from the package, for importing it whole takes seconds."""
    spec = importlib.util.find_spec("authentik_client")
    root = Path(spec.submodule_search_locations[0])
    for name, directory in ("authentik_client", root), ("authentik_client.models", root / "models"):
        package = types.ModuleType(name)
        package.__path__ = [str(directory)]
        sys.modules[name] = package
    found = re.findall(
        r"^from (authentik_client\.models\.\w+) import (\w+)", (root / "models/__init__.py").read_text(), re.MULTILINE
    )
    return {name: module for module, name in found}


@cache
def request_class(model):
    """The class that a blueprint's entry of `model` must fit; None if there is none."""
    name = MODELS.get(model)
    if name is None or name not in classes():
        return None
    return getattr(importlib.import_module(classes()[name]), name)


@cache
def nullable(request):
    """Fields that may be null. Pydantic takes null for whatever is optional, but the client's code tells them apart."""
    return set(re.findall(r"_dict\['(\w+)'\] = None", inspect.getsource(request.to_dict)))


def fields_of(model):
    return set(request_class(model).model_fields) | BLUEPRINT_ONLY.get(model, set())


def bare(annotation):
    """The annotation without Optional and Annotated."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif origin in (typing.Union, types.UnionType):
            annotation = next(part for part in typing.get_args(annotation) if part is not type(None))
        else:
            return annotation


def is_model(annotation):
    return isinstance(annotation, type) and hasattr(annotation, "model_fields")


def plausible(value, annotation):
    """`value` with everything unknown replaced by something that fits `annotation`, where anything can."""
    annotation = bare(annotation)
    if isinstance(value, list):
        inner = typing.get_args(annotation)[0] if typing.get_origin(annotation) is list else typing.Any
        return [
            plausible(item, inner)
            for item in value
            if not (isinstance(item, Unknown) and not item.text and is_model(bare(inner)))
        ]
    if isinstance(value, dict):
        known = annotation.model_fields if is_model(annotation) else {}
        return {
            key: plausible(item, known[key].annotation if key in known else typing.Any) for key, item in value.items()
        }
    if isinstance(value, Ref) and value.model:
        return 1 if NUMBERED.fullmatch(value.model) else uuid.UUID(int=1)
    if not isinstance(value, (Ref, Unknown)):
        return value
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return next(iter(annotation))
    if annotation in (uuid.UUID, int, bool, float):
        return {uuid.UUID: uuid.UUID(int=1), int: 1, bool: True, float: 1.0}[annotation]
    if isinstance(value, Unknown) and not value.text and typing.get_origin(annotation) in (list, dict):
        return typing.get_origin(annotation)()
    return "x"


def described(annotation):
    annotation = bare(annotation)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is list:
        return f"list of {described(args[0])}"
    if origin is dict or annotation is dict:
        return "mapping"
    if is_model(annotation):
        inner = (
            f"{name}{'' if field.is_required() else '?'}: {described(field.annotation)}"
            for name, field in annotation.model_fields.items()
        )
        return "{" + ", ".join(inner) + "}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(member.value) for member in annotation)
    return {uuid.UUID: "UUID", str: "text", int: "number", bool: "true|false"}.get(
        annotation, getattr(annotation, "__name__", str(annotation))
    )


def extra_keys(value, annotation, path):
    """Keys that a nested model has not; pydantic drops them."""
    annotation = bare(annotation)
    if isinstance(value, list) and typing.get_origin(annotation) is list:
        for position, item in enumerate(value):
            yield from extra_keys(item, typing.get_args(annotation)[0], f"{path}.{position}")
    elif isinstance(value, dict) and is_model(annotation):
        for key, item in value.items():
            if key in annotation.model_fields:
                yield from extra_keys(item, annotation.model_fields[key].annotation, f"{path}.{key}")
            else:
                yield f"{path}.{key}"


# ---------------------------------------------------------------------------------------------------------------------
# Judging.


class Scope:
    """Where tags of one entry are resolved."""

    def __init__(self, judge, number, context, assumption):
        self.judge, self.number, self.context, self.assumption = judge, number, context, assumption
        self.items = []
        self.guessed = False

    def guess(self):
        """Which way an !If goes that cannot be told; the entry is judged both ways."""
        self.guessed = True
        return self.assumption

    def resolve(self, value):
        if isinstance(value, Tag):
            return value.resolve(self)
        if isinstance(value, dict):
            return {key: self.resolve(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [self.resolve(inner) for inner in value]
        return value

    def key_of(self, name):
        number, model, state = self.judge.ids.get(name, (None, None, None))
        if number is None:
            raise Problem(f"!KeyOf {name}: no entry has that id")
        if number >= self.number:
            raise Problem(f"!KeyOf {name}: entry {number} comes only later" if number > self.number else
                          f"!KeyOf {name}: that is this entry itself")  # fmt: skip
        if state == "absent" or model == META:
            raise Problem(f"!KeyOf {name}: entry {number} leaves no object to refer to")
        return Ref(model if isinstance(model, str) else None, f"!KeyOf {name}", ("KeyOf", number))


class Judge:
    """Judges one blueprint; `problems` says what is wrong."""

    def __init__(self, version, strict):
        self.version, self.strict = version, strict
        self.problems = []
        self.ids = {}
        self.seen = {}
        self.embedded = None

    def findable(self, model):
        """The fields by which objects of `model` can be found."""
        if model in BASES:
            return BASES[model] | {"pk"}
        if request_class(model) is None:
            raise Problem(f"!Find: unknown model {model!r}")
        return fields_of(model) | {"pk"} | ({"managed"} if MANAGED.fullmatch(model) else set())

    def report(self, text, number=None, model=None):
        line = f"entry {number} ({model}): {text}" if number else text
        if line not in self.problems:
            self.problems.append(line)

    def judge(self, text):
        try:
            blueprint = yaml.load(text, Loader)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            what = getattr(error, "problem", None) or str(error).replace("\n", " ")
            what = re.sub(r"could not determine a constructor for the tag '(.*)'", r"unknown tag \1", what)
            where = f"line {mark.line + 1}: " if mark else ""
            self.report(where + what)
            return self.problems
        if not isinstance(blueprint, dict):
            self.report("not a mapping")
            return self.problems
        for key in blueprint.keys() - {"version", "metadata", "context", "entries"}:
            self.report(f"unknown key {key!r}")
        if blueprint.get("version") != 1 or isinstance(blueprint["version"], bool):
            self.report("version is not 1")
        if "metadata" in blueprint:
            self.metadata(blueprint["metadata"])
        context = blueprint.get("context", {})
        if not isinstance(context, dict):
            self.report("context is not a mapping")
            context = {}
        entries = blueprint.get("entries")
        if not isinstance(entries, list):
            self.report("entries is not a list")
            return self.problems
        for number, entry in enumerate(entries, 1):
            self.identity(number, entry)
        for number, entry in enumerate(entries, 1):
            if isinstance(entry, dict):
                for assumption in True, False:
                    scope = Scope(self, number, context, assumption)
                    self.entry(number, entry, scope, first=assumption)
                    if not scope.guessed:
                        break
        return self.problems

    def metadata(self, metadata):
        if not isinstance(metadata, dict):
            self.report("metadata is not a mapping")
            return
        for key in metadata.keys() - {"name", "labels"}:
            self.report(f"metadata has an unknown key {key!r}")
        if not isinstance(metadata.get("name"), str) or not metadata["name"]:
            self.report("metadata has no name")
        labels = metadata.get("labels", {})
        if not isinstance(labels, dict) or not all(
            isinstance(part, str) for label in labels.items() for part in label
        ):
            self.report("metadata.labels does not map text to text")

    def identity(self, number, entry):
        """Notes who is who, for !KeyOf."""
        if not isinstance(entry, dict):
            self.report("not a mapping", number, "?")
            return
        model, name = entry.get("model"), entry.get("id")
        if name is None:
            return
        if not isinstance(name, str):
            self.report("id is not text", number, model)
        elif name in self.ids:
            self.report(f"id {name!r} is that of entry {self.ids[name][0]} already", number, model)
        else:
            self.ids[name] = (number, model, entry.get("state", "present"))

    def entry(self, number, entry, scope, first):
        model = entry.get("model")

        def report(text):
            self.report(text, number, model if isinstance(model, (str, type(None))) else "?")

        for key in entry.keys() - {"model", "identifiers", "attrs", "id", "state", "conditions", "permissions"}:
            report(f"unknown key {key!r}")
        try:
            model = scope.resolve(model)
            state = scope.resolve(entry.get("state", "present"))
            conditions = scope.resolve(entry.get("conditions", []))
            permissions = scope.resolve(entry.get("permissions", []))
        except Problem as problem:
            report(str(problem))
            return
        if not isinstance(model, str):
            report("model is not text")
            return
        if state not in STATES:
            report(f"state {state!r} is none of {', '.join(STATES)}")
        if not isinstance(conditions, list):
            report("conditions is not a list")
        self.permissions(permissions, report)

        parts = {}
        for part in "identifiers", "attrs":
            given = entry.get(part)
            parts[part] = {}
            if given is None:
                continue
            if isinstance(given, Tag):
                try:
                    given = given.resolve(scope)
                except Problem as problem:
                    report(str(problem))
                    continue
            if not isinstance(given, dict):
                report(f"{part} is not a mapping")
                continue
            for key, value in given.items():
                try:
                    parts[part][key] = scope.resolve(value)
                except Problem as problem:
                    report(f"{key}: {problem}")
                    parts[part][key] = Unknown()
        identifiers, attrs = parts["identifiers"], parts["attrs"]

        if model == META:
            for key in attrs.keys() - {"identifiers", "required"}:
                report(f"has no field {key!r}")
            if not isinstance(attrs.get("identifiers"), dict) or not attrs["identifiers"]:
                report("attrs.identifiers does not say which blueprint")
            if not isinstance(attrs.get("required", True), (bool, Unknown)):
                report("required is neither true nor false")
            return
        if request_class(model) is None:
            report("unknown model")
            return
        if not identifiers:
            report("no identifiers")
        same = (model, repr(sorted(identifiers.items(), key=repr)))
        if first and identifiers and self.seen.setdefault(same, number) != number:
            report(f"has the identifiers of entry {self.seen[same]}, so that it overwrites that one's object")

        known = fields_of(model)
        for key in identifiers:
            if key not in known and key != "pk" and not (key == "managed" and MANAGED.fullmatch(model)):
                report(f"has no field {key!r}")
        for key, value in attrs.items():
            if key not in known:
                report(f"has no field {key!r}")
            elif key in identifiers and (isinstance(value, (list, dict)) or repr(value) != repr(identifiers[key])):
                report(f"{key}: in identifiers and in attrs, and not the same")
        if model == "authentik_outposts.outpost" and identifiers.get("managed") == EMBEDDED:
            self.embedded = self.embedded or number
            if self.embedded != number:
                report(f"the embedded outpost is entry {self.embedded} already, and its list of providers replaces")

        if state == "absent":
            if attrs:
                report(f"absent, but has attrs ({', '.join(map(str, attrs))})")
            self.fields(model, identifiers, report)
            self.references(model, identifiers, report)
        elif state == "created" and not attrs and re.fullmatch(CERTIFICATE, model):
            # It asserts that there is one: authentik leaves it as it is, and could not make one that is missing.
            self.fields(model, identifiers, report)
        else:
            merged = {**attrs, **identifiers}
            self.fields(model, merged, report)
            self.whole(model, merged, report)
            self.references(model, merged, report)
            self.rules(model, merged, identifiers, report)

    def permissions(self, permissions, report):
        if not isinstance(permissions, list):
            report("permissions is not a list")
            return
        for permission in permissions:
            if not isinstance(permission, dict) or not {"permission"} <= permission.keys() <= {
                "permission", "user", "role",
            }:  # fmt: skip
                report("a permission is {permission, user or role}")

    def fields(self, model, values, report):
        """What can be said of each field alone, besides what its type says."""
        request = request_class(model)
        for key, value in values.items():
            if key in request.model_fields:
                for path in extra_keys(value, request.model_fields[key].annotation, key):
                    report(f"has no field {path!r}")
                if value is None and key not in nullable(request):
                    report(f"{key}: may not be null")
            elif key in ("icon", "background", "key", "password", "managed") and not isinstance(value, (str, Unknown)):
                report(f"{key}: is not text")
            if key in DURATIONS and isinstance(value, str) and not DURATION.fullmatch(value):
                report(f"{key}: {value!r} is not like hours=1;minutes=5")
            if key == "expression" and isinstance(value, str):
                self.expression(value, report)

    def expression(self, expression, report):
        # As in authentik/lib/expression/evaluator.py.
        source = "def handler(request):\n" + textwrap.indent(expression, "    ") + "\nresult = handler(request)"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compile(source, "expression", "exec")
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            where = f"line {line - 1}: " if line else ""
            report(f"expression: {where}{getattr(error, 'msg', error)}")

    def whole(self, model, values, report):
        """What authentik's API model says."""
        request = request_class(model)
        data = {
            key: plausible(value, request.model_fields[key].annotation)
            for key, value in values.items()
            if key in request.model_fields
        }
        try:
            request.model_validate(data)
        except ValueError as error:
            for found in error.errors():
                path = ".".join(str(part) for part in found["loc"]) or "all"
                report(f"{path}: {'is required' if found['type'] == 'missing' else found['msg']}")

    def references(self, model, values, report):
        for key, value in values.items():
            for pattern, field, wanted in REFERENCES:
                if not re.fullmatch(pattern, model) or not re.fullmatch(field, str(key)):
                    continue
                for item in value if isinstance(value, list) else [value]:
                    if isinstance(item, Ref) and item.model and not re.fullmatch(wanted, item.model):
                        report(f"{key}: {item.label} is a {item.model}")
                break
        if model == "authentik_policies.policybinding" and not isinstance(values.get("target"), (Ref, Unknown)):
            report("target: names nothing by !KeyOf or !Find")

    def rules(self, model, values, identifiers, report):
        """What the code of authentik's serializers says."""
        app, _, name = model.partition(".")
        if name == "policybinding":
            bound = [key for key in ("policy", "group", "user") if values.get(key) is not None]
            if len(bound) != 1:
                report(f"binds {' and '.join(bound) or 'nothing'}: it must be one of policy, group and user")
        if name == "oauth2provider":
            uris = values.get("redirect_uris")
            for position, uri in enumerate(uris if isinstance(uris, list) else []):
                if isinstance(uri, dict) and uri.get("matching_mode") == "regex" and isinstance(uri.get("url"), str):
                    try:
                        re.compile(uri["url"])
                    except re.error as error:
                        report(f"redirect_uris.{position}.url: {error}")
            grants = values.get("grant_types")
            if self.strict:
                if self.version != "2025.10" and (
                    grants is None or isinstance(grants, list) and "authorization_code" not in grants
                ):
                    report("grant_types: without authorization_code every login is refused (none is the default)")
                if uris == []:
                    report("redirect_uris: if there is none, whoever comes first sets it")
        if name == "proxyprovider":
            if values.get("mode", "proxy") == "proxy" and values.get("internal_host", "") == "":
                report("internal_host: is required unless mode is forward_single or forward_domain")
            for key in "external_host", "internal_host":
                if isinstance(values.get(key), str) and not re.match(r"https?://[^/]|$", values[key]):
                    report(f"{key}: {values[key]!r} is no http or https URL")
            if values.get("basic_auth_enabled") is True and not (
                values.get("basic_auth_user_attribute") and values.get("basic_auth_password_attribute")
            ):
                report("basic_auth_enabled: needs basic_auth_user_attribute and basic_auth_password_attribute")
        if name == "outpost":
            embedded = EMBEDDED in (identifiers.get("managed"), values.get("managed"))
            if embedded and isinstance(values.get("name"), str) and values["name"] != EMBEDDED_NAME:
                report(f"name: that of the embedded outpost cannot be changed from {EMBEDDED_NAME!r}")
            if not embedded and values.get("providers") == []:
                report("providers: only the embedded outpost may have none")
            kind = OUTPOST_PROVIDERS.get(values.get("type")) if isinstance(values.get("type"), str) else None
            for provider in values["providers"] if isinstance(values.get("providers"), list) else []:
                if kind and isinstance(provider, Ref) and provider.model not in (kind, "authentik_core.provider", None):
                    report(f"providers: {provider.label} is a {provider.model}, the outpost takes {kind}")
            if isinstance(values.get("config"), dict):
                for key in "authentik_host", "authentik_host_browser":
                    host = values["config"].get(key, "")
                    if not isinstance(host, Unknown) and not (
                        isinstance(host, str) and re.match(r"https?://[^/]|$", host)
                    ):
                        report(f"config.{key}: {host!r} is no http or https URL")
        if name == "authenticatorvalidatestage":
            if values.get("not_configured_action") == "configure" and not values.get("configuration_stages"):
                report("configuration_stages: is required if not_configured_action is configure")


def judge(text, version, strict=False):
    return Judge(version, strict).judge(text)


# ---------------------------------------------------------------------------------------------------------------------
# Self-test.

EXAMPLE = """\
version: 1
metadata: { name: rick - applications }
entries:
  - model: authentik_core.group
    id: grp-nextcloud-users
    state: created
    identifiers: { name: nextcloud-users }
    attrs: { is_superuser: false }
  - model: authentik_providers_oauth2.scopemapping
    id: scope-groups
    identifiers: { name: "rick: groups" }
    attrs:
      scope_name: groups
      expression: |
        return {"groups": [g.name for g in request.user.ak_groups.all()]}   # 2026.2+: request.user.groups
  - model: authentik_providers_oauth2.oauth2provider
    id: prov-nextcloud
    identifiers: { name: nextcloud }
    attrs:
      client_type: confidential
      client_id: nextcloud
      client_secret: !File /run/secrets/nextcloud_oidc_secret
      authorization_flow: !Find [authentik_flows.flow, [slug, default-provider-authorization-implicit-consent]]
      invalidation_flow: !Find [authentik_flows.flow, [slug, default-provider-invalidation-flow]]
      signing_key: !Find [authentik_crypto.certificatekeypair, [name, authentik Self-signed Certificate]]
      redirect_uris:
        - { matching_mode: strict, url: "https://cloud.example.net/apps/oidc_login/oidc" }
      property_mappings:
        - !Find [authentik_providers_oauth2.scopemapping, [managed, goauthentik.io/providers/oauth2/scope-openid]]
        - !Find [authentik_providers_oauth2.scopemapping, [managed, goauthentik.io/providers/oauth2/scope-email]]
        - !Find [authentik_providers_oauth2.scopemapping, [managed, goauthentik.io/providers/oauth2/scope-profile]]
        - !KeyOf scope-groups
      access_code_validity: minutes=1
      access_token_validity: hours=1
      refresh_token_validity: days=30
      include_claims_in_id_token: true
      sub_mode: hashed_user_id          # user_id user_uuid user_username user_email user_upn
      issuer_mode: per_provider         # or global
  - model: authentik_core.application
    id: app-nextcloud
    identifiers: { slug: nextcloud }
    attrs: { name: Nextcloud, provider: !KeyOf prov-nextcloud, policy_engine_mode: all }
  - model: authentik_policies.policybinding       # exactly one of policy/group/user
    identifiers: { target: !KeyOf app-nextcloud, order: 0 }
    attrs: { group: !KeyOf grp-nextcloud-users, enabled: true }
  - model: authentik_policies_expression.expressionpolicy
    id: pol-internal
    identifiers: { name: rick-internal-network }
    attrs:
      expression: |
        return any(ak_client_ip in ip_network(n) for n in ["10.0.0.0/8", "192.168.0.0/16"])
  - model: authentik_providers_proxy.proxyprovider
    id: prov-whoami
    identifiers: { name: whoami }
    attrs:
      mode: forward_single              # proxy | forward_single | forward_domain
      external_host: https://whoami.example.net
      authorization_flow: !Find [authentik_flows.flow, [slug, default-provider-authorization-implicit-consent]]
      invalidation_flow: !Find [authentik_flows.flow, [slug, default-provider-invalidation-flow]]
      access_token_validity: hours=1
      skip_path_regex: |
        ^/health$
        ^/metrics$
  - model: authentik_core.application
    id: app-whoami
    identifiers: { slug: whoami }
    attrs: { name: whoami, provider: !KeyOf prov-whoami }
  - model: authentik_policies.policybinding
    identifiers: { target: !KeyOf app-whoami, order: 0 }
    attrs: { policy: !KeyOf pol-internal }
  - model: authentik_outposts.outpost
    identifiers: { managed: goauthentik.io/outposts/embedded }
    attrs:
      name: authentik Embedded Outpost
      type: proxy
      providers: [ !KeyOf prov-whoami ]
      config: { authentik_host: "https://auth.example.net" }
"""

MFA = """\
version: 1
metadata: { name: rick - flows }
entries:
  - model: authentik_stages_authenticator_validate.authenticatorvalidatestage
    id: stage-mfa
    identifiers: { name: rick-mfa }
    attrs:
      not_configured_action: configure
      device_classes: [ totp, webauthn, static ]
      configuration_stages:
        - !Find [authentik_stages_authenticator_totp.authenticatortotpstage, [name, default-authenticator-totp-setup]]
      last_auth_threshold: hours=12
  - model: authentik_flows.flow
    id: flow-mfa
    identifiers: { slug: rick-authorization-mfa }
    attrs:
      name: rick - authorization with a second factor
      title: "Redirecting to %(app)s"
      designation: authorization
      authentication: require_authenticated
  - model: authentik_flows.flowstagebinding
    identifiers: { target: !KeyOf flow-mfa, stage: !KeyOf stage-mfa, order: 10 }
"""

TAGS = """\
version: 1
context:
  names: [ one, two ]
  more: { enabled: true }
entries:
  - model: authentik_blueprints.metaapplyblueprint
    attrs: { identifiers: { name: System - OAuth2 Provider - Scopes }, required: false }
  - model: authentik_core.group
    id: group
    conditions: [ !Condition [ NAND, !Context missing, !Env [ ONLY, "" ] ] ]
    identifiers: { name: !Format [ "%s-%d", !Env PREFIX, !Context [ number, 3 ] ] }
    attrs:
      is_superuser: !If [ !Context superuser, true, false ]
      attributes:
        parsed: !ParseJSON '{"a": [1]}'
        list: !Enumerate [ !Context names, SEQ, !Format [ "%s-%s", !Index 0, !Value 0 ] ]
        map: !Enumerate [ { a: 1 }, MAP, [ !Index 0, !Value 0 ] ]
        at: !AtIndex [ !Context names, 1 ]
        object: !AtIndex [ !FindObject [ authentik_core.user, [ username, akadmin ] ], email, none ]
  - model: authentik_core.user
    identifiers: { username: robot }
    attrs: { name: !Env [ ROBOT, robot ], password: !File /run/secrets/robot, groups: [ !KeyOf group ] }
  - model: authentik_policies.policybinding
    identifiers:
      target: !Find [ authentik_core.application, [ slug, somewhere ] ]
      order: 1
    attrs: { user: !Find [ authentik_core.user, [ username, akadmin ] ], enabled: !AtIndex [ !Context more, enabled ] }
"""

ABSENT = """\
version: 1
entries:
  - model: authentik_policies.policybinding
    state: absent
    identifiers: { target: !Find [authentik_core.application, [slug, gone]], order: 0 }
  - model: authentik_core.application
    state: absent
    identifiers: { slug: gone }
  - model: authentik_providers_oauth2.oauth2provider
    state: absent
    identifiers: { name: gone }
"""

CLIENT_SECRET = "client_secret: !File /run/secrets/nextcloud_oidc_secret"
REDIRECT_URI = '{ matching_mode: strict, url: "https://cloud.example.net/apps/oidc_login/oidc" }'
INVALIDATION = """\
      invalidation_flow: !Find [authentik_flows.flow, [slug, default-provider-invalidation-flow]]
      signing_key"""
OUTPOST = """\
  - model: authentik_outposts.outpost
    identifiers: { managed: goauthentik.io/outposts/embedded }
    attrs: { name: authentik Embedded Outpost, type: proxy, providers: [], config: {} }
"""
BINDING = "group: !KeyOf grp-nextcloud-users, enabled: true"
# base, text, what it becomes (None: appended), and what must be said about it
BROKEN = [
    (EXAMPLE, "version: 1", "version: 2", "version is not 1"),
    (EXAMPLE, "metadata: { name: rick - applications }", "metadata: { labels: {} }", "metadata has no name"),
    (EXAMPLE, "entries:", "blueprint: {}\nentries:", "unknown key 'blueprint'"),
    (EXAMPLE, "state: created", "states: created", "entry 1 (authentik_core.group): unknown key 'states'"),
    (EXAMPLE, "state: created", "state: updated", "state 'updated'"),
    (EXAMPLE, "is_superuser: false", "superuser: false", "entry 1 (authentik_core.group): has no field 'superuser'"),
    (EXAMPLE, "is_superuser: false", "is_superuser: 0", "is_superuser: Input should be a valid boolean"),
    (EXAMPLE, "is_superuser: false", "is_superuser: null", "is_superuser: may not be null"),
    (EXAMPLE, "id: scope-groups", "id: grp-nextcloud-users", "is that of entry 1 already"),
    (EXAMPLE, "provider: !KeyOf prov-nextcloud", "provider: !KeyOf prov-whoami", "entry 7 comes only later"),
    (EXAMPLE, "provider: !KeyOf prov-nextcloud", "provider: !KeyOf nobody", "no entry has that id"),
    (EXAMPLE, "state: created", "state: absent", "leaves no object to refer to"),
    (EXAMPLE, "provider: !KeyOf prov-whoami", "provider: !KeyOf app-nextcloud", "is a authentik_core.application"),
    (EXAMPLE, f"\n        - {REDIRECT_URI}", ' "https://a.example/callback"', "redirect_uris: Input should be a valid"),
    (EXAMPLE, REDIRECT_URI, "https://a.example/callback", "redirect_uris.0: Input should be a valid"),
    (EXAMPLE, "matching_mode: strict, url", "matching_mode: loose, url", "redirect_uris.0.matching_mode: Input"),
    (EXAMPLE, "matching_mode: strict, url", "mode: strict, url", "has no field 'redirect_uris.0.mode'"),
    (EXAMPLE, REDIRECT_URI, '{ matching_mode: regex, url: "https://(" }', "redirect_uris.0.url"),
    (EXAMPLE, INVALIDATION, "      signing_key", "invalidation_flow: is required"),
    (EXAMPLE, "signing_key: !Find [authentik_crypto.certificatekeypair, [name", "signing_key: !Find [authentik_flows.flow, [slug", "signing_key: !Find authentik_flows.flow"),  # noqa: E501
    (EXAMPLE, "[authentik_crypto.certificatekeypair, [name,", "[authentik_crypto.certificatekeypair, [title,", "has no field 'title'"),  # noqa: E501
    (EXAMPLE, "authentik_crypto.certificatekeypair", "authentik_crypto.keypair", "unknown model 'authentik_crypto"),
    (EXAMPLE, BINDING, f"{BINDING}, policy: !KeyOf scope-groups", "binds policy and group"),
    (EXAMPLE, BINDING, "enabled: true", "binds nothing"),
    (EXAMPLE, "target: !KeyOf app-whoami", "target: !KeyOf prov-whoami", "is a authentik_providers_proxy.proxyprovider"),
    (EXAMPLE, "target: !KeyOf app-whoami", "target: !Find [authentik_core.provider, [name, x]]", "entry 9 (authentik_policies.policybinding): target"),  # noqa: E501
    (EXAMPLE, "target: !KeyOf app-whoami", "target: whoami", "target: names nothing"),
    (EXAMPLE, "target: !KeyOf app-whoami", "target: !KeyOf app-nextcloud", "has the identifiers of entry 5"),
    (EXAMPLE, "client_type: confidential", "client_type: secret", "client_type: Input should be 'confidential' or"),
    (EXAMPLE, "mode: forward_single ", "mode: forward ", "mode: Input should be 'proxy'"),
    (EXAMPLE, "mode: forward_single ", "mode: proxy ", "internal_host: is required"),
    (EXAMPLE, "external_host: https://", "external_host: ", "is no http or https URL"),
    (EXAMPLE, "policy_engine_mode: all", "policy_engine_mode: every", "policy_engine_mode: Input should be"),
    (EXAMPLE, "refresh_token_validity: days=30", "refresh_token_validity: 30d", "'30d' is not like"),
    (EXAMPLE, "access_code_validity: minutes=1", "access_code_validity: minute=1", "'minute=1' is not like"),
    (EXAMPLE, "client_id: nextcloud", "client_id: nextcloud\n      client_id: other", "duplicate key 'client_id'"),
    (EXAMPLE, CLIENT_SECRET, "client_secret: !Secret nextcloud", "line 22: unknown tag !Secret"),
    (EXAMPLE, CLIENT_SECRET, "client_secret: !File [ /run/secrets/x ]", "!File with 1 arguments"),
    (EXAMPLE, CLIENT_SECRET, 'client_secret: !Format [ "%s-%s", a ]', "not enough arguments"),
    (EXAMPLE, CLIENT_SECRET, "client_secret: !Value 0", "!Index and !Value belong in"),
    (EXAMPLE, "property_mappings:\n", "property_mappings: !File /etc/mappings\n      jwt_federation_sources:\n", "property_mappings: Input should be a valid list"),  # noqa: E501
    (EXAMPLE, "return any(", "return any((", "expression: line 1: "),
    (EXAMPLE, 'return {"groups": [', "# {[", "entry 2 (authentik_providers_oauth2.scopemapping): expression"),
    (EXAMPLE, None, OUTPOST, "the embedded outpost is entry 10 already"),
    (EXAMPLE, "name: authentik Embedded Outpost", "name: rick", "cannot be changed"),
    (EXAMPLE, "providers: [ !KeyOf prov-whoami ]", "providers: [ !KeyOf prov-nextcloud ]", "the outpost takes"),
    (EXAMPLE, "      config: {", "      configuration: {", "config: is required"),
    (EXAMPLE, 'authentik_host: "https://', 'authentik_host: "', "config.authentik_host"),
    (EXAMPLE, "authentik_core.group\n", "authentik_core.groups\n", "entry 1 (authentik_core.groups): unknown model"),
    (EXAMPLE, "{ slug: whoami }", '{ slug: "who am i" }', "slug: Value error"),
    (EXAMPLE, "{ slug: whoami }", "{ slug: whoami, name: who }", "name: in identifiers and in attrs"),
    (EXAMPLE, "identifiers: { slug: whoami }", "identifiers: {}", "no identifiers"),
    (MFA, "designation: authorization", "designation: authorisation", "designation: Input should be"),
    (MFA, "designation: authorization\n", "layout: stacked\n", "designation: is required"),
    (MFA, "last_auth_threshold: hours=12", "last_auth_threshold: 12h", "'12h' is not like"),
    (MFA, "device_classes: [ totp,", "device_classes: [ yubikey,", "device_classes.0: Input should be"),
    (MFA, "configuration_stages:\n        -", "webauthn_allowed_device_types:\n        -", "configuration_stages: is"),
    (MFA, "stage: !KeyOf stage-mfa", "stage: !KeyOf flow-mfa", "stage: !KeyOf flow-mfa is a authentik_flows.flow"),
    (MFA, ", order: 10", "", "order: is required"),
    (TAGS, "[ NAND,", "[ NEITHER,", "'NEITHER' is none of"),
    (TAGS, "!Context superuser, true, false", "!Context superuser, true, x", "is_superuser: Input should be"),
    (TAGS, "'{\"a\": [1]}'", "'{a}'", "!ParseJSON"),
    (TAGS, "!Context names, 1 ]", "!Context names, 2 ]", "!AtIndex: there is no 2"),
    (ABSENT, "identifiers: { name: gone }", "identifiers: { name: gone }\n    attrs: { client_id: x }", "absent, but"),
    (ABSENT, "{ slug: gone }", "{ slug: gone, host: x }", "entry 2 (authentik_core.application): has no field 'host'"),
    (ABSENT, "order: 0 }", "order: 0 }\n    name: x", "unknown key 'name'"),
]  # fmt: skip

# Per version: what only the other one takes.
BROKEN_IN = {
    "2025.10": [
        (EXAMPLE, "is_superuser: false", "parents: []", "has no field 'parents'"),
        (EXAMPLE, "client_type: confidential", "grant_types: [ authorization_code ]", "has no field 'grant_types'"),
    ],
    "2026.8": [
        (EXAMPLE, "is_superuser: false", "parent: null", "has no field 'parent'"),
        (EXAMPLE, "client_type: confidential", "grant_types: [ code ]", "grant_types.0: Input should be"),
    ],
}


def self_test(version):
    failures = []
    granted = "grant_types: [ authorization_code, refresh_token ]\n      client_id: nextcloud"
    strictly = EXAMPLE if version == "2025.10" else EXAMPLE.replace("client_id: nextcloud", granted)
    good = [(EXAMPLE, False), (MFA, True), (TAGS, True), (ABSENT, True), (strictly, True)]
    for text, strict in good:
        for problem in judge(text, version, strict):
            failures.append(f"refused: {text.splitlines()[1]} …: {problem}")
    cases = [(*case, False) for case in BROKEN + BROKEN_IN[version]]
    cases.append((EXAMPLE, f"\n        - {REDIRECT_URI}", " []", "whoever comes first", True))
    if version != "2025.10":
        cases.append((EXAMPLE, "client_id: nextcloud", "client_id: nextcloud", "every login is refused", True))
    for base, old, new, expected, strict in cases:
        if old is None:
            broken = base + new
        else:
            assert old in base, f"{old!r} is not in the example"
            broken = base.replace(old, new, 1)
        problems = judge(broken, version, strict)
        if not any(expected in problem for problem in problems):
            failures.append(f"{old!r} → {new!r}: expected {expected!r}, got {problems or 'nothing'}")
    for failure in failures:
        print(failure)
    if not failures:
        print(f"{version}: {len(good)} accepted, {len(cases)} refused")
    return bool(failures)


def print_fields(model):
    request = request_class(model)
    if request is None:
        print(f"ci/blueprint-judge: unknown model {model}; one of:", *sorted(MODELS), sep="\n  ", file=sys.stderr)
        return 2
    for name, field in request.model_fields.items():
        required = "required" if field.is_required() else ""
        null = " (or null)" if name in nullable(request) else ""
        print(f"{name:32}{required:10}{described(field.annotation)}{null}")
    for name in sorted(BLUEPRINT_ONLY.get(model, set()) - set(request.model_fields)):
        print(f"{name:32}{'':10}text, in blueprints only")
    return 0


def main(arguments):
    strict = arguments[0] == "--strict"
    if arguments[0] == "--self-test":
        return self_test(arguments[1])
    if arguments[0] == "--fields":
        return print_fields(arguments[2])
    version, *paths = arguments[strict:]
    status = 0
    for path in paths:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            print(f"ci/blueprint-judge: {path}: {error}", file=sys.stderr)
            return 2
        for problem in judge(text, version, strict):
            print(f"{path}: {problem}")
            status = 1
    return status


if __name__ == "__main__":
    try:
        STATUS = main(sys.argv[1:])
    except Exception:  # noqa: BLE001  # whatever it is, it is no judgement, which the usual status would say
        traceback.print_exc()
        STATUS = 2
    sys.exit(STATUS)
