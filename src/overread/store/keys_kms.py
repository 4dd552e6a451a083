"""A master key in AWS KMS, or in whatever speaks its protocol: it never leaves it, and each use is in its log."""

from __future__ import annotations

from typing import Any

from overread.domain.errors import KeyUnavailable, SetupError

PREFIX = "aws-kms:"


class AwsKms:
    """Implements `services.key_ports.KeyManagement`: Encrypt and Decrypt with our context."""

    def __init__(self, key: str) -> None:
        """`key` is an id, ARN or alias. Region and credentials come from the usual AWS_* variables, another server from
        AWS_ENDPOINT_URL_KMS. Raises `SetupError` without the package boto3 or a region."""
        try:
            import boto3
            from botocore.config import Config
            from botocore.exceptions import BotoCoreError
        except ImportError as error:
            raise SetupError("A master key in AWS KMS needs boto3.", remedy="pip install 'overread[kms]'") from error
        try:
            make: Any = boto3.client
            options: Any = Config
            self._client: Any = make(
                "kms", config=options(connect_timeout=5, read_timeout=10, retries={"max_attempts": 3})
            )
        except BotoCoreError as error:
            raise SetupError(f"AWS KMS cannot be used: {error}.", remedy="Set AWS_REGION and credentials.") from error
        self._key = key

    @property
    def key_id(self) -> str:
        """`aws-kms:` and the key as it was given."""
        return PREFIX + self._key

    def wrap(self, key: bytes, context: str) -> bytes:
        """Raises `KeyUnavailable`."""
        answer = self._ask("encrypt", KeyId=self._key, Plaintext=key, EncryptionContext={"overread": context})
        return bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, key_id: str, context: str) -> bytes:  # noqa: ARG002
        """KMS knows from `wrapped` which key it was. Raises `KeyUnavailable`."""
        answer = self._ask("decrypt", CiphertextBlob=wrapped, EncryptionContext={"overread": context})
        return bytes(answer["Plaintext"])

    def refresh(self) -> None:
        """KMS rotates its keys by itself."""

    def _ask(self, operation: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
        except (BotoCoreError, ClientError) as error:
            code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
            raise KeyUnavailable(
                f"AWS KMS does not {operation} with the master key ({code}).", remedy="See that service and its rights."
            ) from error
        return answer
