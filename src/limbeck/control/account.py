"""What holds for the whole account: invocation logging; and the tags of anything."""

from __future__ import annotations

from limbeck.control.desk import MOST_TAGS, Answered, Asked, Desk, tags_of
from limbeck.control.hosting import find_imported
from limbeck.control.models import base_entry, find_custom_model
from limbeck.errors import InvalidInput, TooManyTags, Unknown
from limbeck.serving.logbook import log_root

__all__ = [
    "LOGGING",
    "delete_model_invocation_logging_configuration",
    "get_model_invocation_logging_configuration",
    "list_tags_for_resource",
    "put_model_invocation_logging_configuration",
    "tag_resource",
    "untag_resource",
]

LOGGING = "invocation logging"


def put_model_invocation_logging_configuration(asked: Asked, desk: Desk) -> Answered:
    """Log what models are asked and answer, from the next request on. Raises `InvalidInput` for an unknown bucket."""
    config = asked["loggingConfig"]
    if "cloudWatchConfig" in config:
        raise InvalidInput("loggingConfig.cloudWatchConfig: not yet; give s3Config")
    if "s3Config" not in config:
        raise InvalidInput("loggingConfig.s3Config: missing; expected the bucket that gets the log")
    try:
        desk.check_place(f"s3://{config['s3Config']['bucketName']}/")
    except (Unknown, InvalidInput) as error:
        raise InvalidInput(f"loggingConfig.s3Config.bucketName: {error}") from None
    place = config["s3Config"]
    marker = f"{log_root(place.get('keyPrefix'), desk.settings.account)}/amazon-bedrock-logs-permission-check"
    desk.objects.put(place["bucketName"], marker, b"")
    desk.ledger.put_setting(LOGGING, config)
    return {}


def get_model_invocation_logging_configuration(asked: Asked, desk: Desk) -> Answered:
    """What was put, or nothing."""
    return {"loggingConfig": desk.ledger.setting(LOGGING)}


def delete_model_invocation_logging_configuration(asked: Asked, desk: Desk) -> Answered:
    """Log no more."""
    desk.ledger.put_setting(LOGGING, None)
    return {}


def tag_resource(asked: Asked, desk: Desk) -> Answered:
    """Put tags on a resource, or new values on those it has. Raises `TooManyTags`."""
    arn = _known(asked["resourceARN"], desk)
    if not desk.ledger.tag(arn, tags_of(asked["tags"]), MOST_TAGS):
        raise TooManyTags(f"{arn} would have more than {MOST_TAGS} tags")
    return {}


def untag_resource(asked: Asked, desk: Desk) -> Answered:
    """Take tags away."""
    desk.ledger.untag(_known(asked["resourceARN"], desk), asked["tagKeys"])
    return {}


def list_tags_for_resource(asked: Asked, desk: Desk) -> Answered:
    """The tags of a resource."""
    tags = desk.ledger.tags(_known(asked["resourceARN"], desk))
    return {"tags": [{"key": key, "value": value} for key, value in tags.items()]}


def _known(arn: str, desk: Desk) -> str:
    """``arn``, if it is of anything there is. Raises `Unknown`."""
    if (
        desk.ledger.row(arn) is not None
        or find_custom_model(arn, desk) is not None
        or find_imported(arn, desk) is not None
        or base_entry(arn, desk) is not None
    ):
        return arn
    raise Unknown(f"nothing has the ARN {arn}")
